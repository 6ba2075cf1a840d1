"""What a handler returns or says: cleaned until every database takes it."""

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tasks import enqueue
from tasks.models import Failure, Task
from tasks.redact import redact_text
from tasks.text import clean, cut, encode_result, one_line
from tests.tasks.tools import finish, start


def test_nothing_returned_is_no_result_and_no_complaint() -> None:
    assert encode_result(None) == (None, None)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        ({"id": "m-1", "n": [1, 2.5, True, None]}, '{"id":"m-1","n":[1,2.5,true,null]}'),
        ("done", '"done"'),
        (0, "0"),
        ((1, 2), "[1,2]"),
        ({"nan": math.nan, "inf": [math.inf, -math.inf]}, '{"nan":null,"inf":[null,null]}'),
        ("a\x00b", '"a\\ufffdb"'),
        ({"\ud800": "\udfff"}, '{"\\ufffd":"\\ufffd"}'),
        ("NaN", '"NaN"'),
        ({1: 2}, '{"1":2}'),
        ("\\u0000", '"\\\\u0000"'),
        ("\U0001f600", '"\\ud83d\\ude00"'),
    ],
)
def test_a_result_is_encoded_and_cleaned(value: Any, encoded: str) -> None:
    assert encode_result(value) == (encoded, None)


@pytest.mark.parametrize("value", [object(), {"x": b""}, {(1, 2): 3}, [10**5000], {1, 2}])
def test_a_result_that_is_not_json_is_dropped_with_a_complaint(value: Any) -> None:
    encoded, complaint = encode_result(value)
    assert encoded is None
    assert complaint is not None
    assert "not JSON" in complaint


def test_a_result_that_contains_itself_is_dropped() -> None:
    value: list[Any] = []
    value.append(value)
    assert encode_result(value)[0] is None


def test_a_result_above_the_limit_is_dropped_with_a_complaint(settings: Any) -> None:
    settings.AFTERSAVE = {"RESULT_LIMIT": 100}
    encoded, complaint = encode_result("x" * 100)
    assert encoded is None
    assert complaint is not None
    assert "102 bytes" in complaint
    assert encode_result("x" * 98)[1] is None


def test_a_result_nested_deeper_than_databases_take_is_dropped() -> None:
    value: Any = 1
    for _ in range(40):
        value = [value]
    encoded, complaint = encode_result(value)
    assert encoded is None
    assert complaint is not None
    assert "deeper than 31" in complaint


def test_many_shallow_objects_are_not_deep() -> None:
    assert encode_result([{"n": 1}] * 100)[1] is None


def test_text_is_cut_at_bytes_without_splitting_a_character() -> None:
    for limit in range(10, 30):
        cut = clean("äöü€" * 10, limit)
        assert len(cut.encode()) <= limit
        assert cut.endswith("…")
    assert clean("äöü", 6) == "äöü"


@pytest.mark.parametrize("before", range(0, 300, 7))
def test_a_secret_that_a_cut_goes_through_is_hidden_first(before: int) -> None:
    for text in ("x" * before + " postgres://shop:" + "hunter2" * 50 + "@db", "x" * before * 90):
        for cut_text in (one_line(text), cut(text, 300)):
            assert len(cut_text.encode()) <= 300
            assert "hunter2" not in redact_text(cut_text)


def test_a_text_that_fits_stays_as_it_is() -> None:
    assert cut("password=hunter2 äöü", 300) == "password=hunter2 äöü"


def test_a_reason_is_one_line() -> None:
    assert one_line("a\n  b\tc\u2028d\x1ce") == "a b c d e"
    assert len(one_line("x" * 1000).encode()) <= 300


any_text = st.text(st.characters(exclude_categories=[]))
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text | st.just("\\u0000NaN"),
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=12,
)


@pytest.mark.django_db
@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(value=any_json)
def test_every_encoded_result_is_accepted_by_the_database(value: Any) -> None:
    encoded, complaint = encode_result(value)
    assert complaint is None
    task = finish(enqueue("math.add"), result=encoded)
    assert task.result == Task.objects.get(pk=task.pk).result
    assert (task.result is None) == (encoded in (None, "null"))


@pytest.mark.django_db
@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=any_text, limit=st.integers(10, 200))
def test_every_cleaned_text_is_accepted_and_within_its_limit(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert len(cleaned.encode()) <= limit
    task = start(enqueue("math.add"))
    failure = Failure.objects.create(
        task=task, attempt=1, exception="E", message=cleaned, traceback=cleaned
    )
    failure.refresh_from_db()
    assert failure.message == failure.traceback == cleaned


@pytest.mark.django_db
@pytest.mark.parametrize("levels", [1, 29, 30])
def test_the_deepest_result_that_is_kept_is_accepted_by_the_database(levels: int) -> None:
    value: Any = 1
    for _ in range(levels):
        value = {"x": value}
    encoded, complaint = encode_result(value)
    assert complaint is None
    assert finish(enqueue("math.add"), result=encoded).result == value
