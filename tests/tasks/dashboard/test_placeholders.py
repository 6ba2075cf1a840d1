"""Secrets in the editor: placeholders that keep what they stand for, and never show it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dashboard.placeholders import PlaceholderMoved, fill, hide
from tasks.redact import redact

DATA = {
    "to": "ann@example.com",
    "password": "hunter2",
    "items": [{"card": "4111", "x": 1}, {"card": "4222", "x": 2}],
    "url": "https://bob:geheim@example.com/x",
    "token": None,
    "secret": {"a": 1},
}
HIDDEN = {
    "to": "ann@example.com",
    "password": "[redacted 1]",
    "items": [{"card": "[redacted 2]", "x": 1}, {"card": "[redacted 3]", "x": 2}],
    "url": "[redacted 4]",
    "token": None,
    "secret": "[redacted 5]",
}


def test_secrets_become_numbered_placeholders():
    assert hide(DATA)[0] == HIDDEN


def test_placeholders_left_alone_keep_what_is_stored():
    shown, hidden = hide(DATA)
    assert fill({**shown, "to": "bob@example.com"}, hidden) == {**DATA, "to": "bob@example.com"}


def test_an_item_taken_out_of_a_list_does_not_give_its_secret_to_the_next():
    shown, hidden = hide(DATA)
    shown["items"] = [shown["items"][1]]
    assert fill(shown, hidden)["items"] == [{"card": "4222", "x": 2}]


def test_items_may_change_places_with_their_secrets():
    shown, hidden = hide(DATA)
    shown["items"].reverse()
    assert fill(shown, hidden)["items"] == DATA["items"][::-1]


def test_a_secret_can_be_replaced():
    shown, hidden = hide(DATA)
    assert fill({**shown, "password": "new"}, hidden)["password"] == "new"


@pytest.mark.parametrize(
    "edited",
    [
        {"note": "[redacted 1]"},
        {"items": ["[redacted 2]"]},
        {"to": "[redacted 1]"},
        {"password": "[redacted 2]"},
        {"password": "[redacted 9]"},
        {"password": "[redacted 0]"},
        {"password": "[redacted]"},
        {"url": "[redacted 4]/more"},
        {"note": ["see [redacted 1]"]},
        {"[x]": {"password": "[redacted 1]"}},
    ],
)
def test_a_placeholder_is_refused_where_its_value_does_not_belong(edited):
    with pytest.raises(PlaceholderMoved, match=r"\[redacted"):
        fill(edited, hide(DATA)[1])


def test_text_that_looks_like_a_placeholder_is_kept_too():
    data = {"note": "[redacted 1]", "other": "see [redacted]"}
    shown, hidden = hide(data)
    assert shown == {"note": "[redacted 1]", "other": "[redacted 2]"}
    assert fill(shown, hidden) == data


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("Bearer abcdefgh12345678"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "token", "cards", "b"]), inner, max_size=4)
    ),
    max_leaves=20,
)


def test_a_key_that_carries_a_secret_hides_what_it_is_a_key_of():
    data = {"down": {"redis://:geheim@cache/0": 1, "b": 2}, "n": [{"token=abc": 1}]}
    shown, hidden = hide(data)
    assert shown == {"down": "[redacted 1]", "n": ["[redacted 2]"]}
    assert fill(shown, hidden) == data
    whole = {"password=hunter2": 1}
    assert fill(*hide(whole)) == whole


@given(_json)
def test_whatever_the_data_nothing_hidden_is_shown_and_all_of_it_is_kept(data):
    shown, hidden = hide(data)
    assert fill(shown, hidden) == data
    assert redact(shown) == shown or "[redacted" in str(redact(shown))
    assert "abcdefgh12345678" not in str(shown)
