import pytest

from tasks.dashboard.ids import BIGGEST_ID, read_id


@pytest.mark.parametrize(
    ("text", "number"), [("12", 12), ("007", 7), ("0", 0), (str(BIGGEST_ID), BIGGEST_ID)]
)
def test_digits_are_a_number(text: str, number: int) -> None:
    assert read_id(text) == number


@pytest.mark.parametrize(
    "text", ["", " 1", "-1", "+1", "1.0", "1e3", "x", "²", "١", str(BIGGEST_ID + 1), "9" * 9999]
)
def test_what_no_row_can_have_is_none(text: str) -> None:
    assert read_id(text) is None
