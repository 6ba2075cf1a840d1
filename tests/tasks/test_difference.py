"""What changed between two versions of a task's data, for people to read."""

import pytest

from tasks.difference import LONGEST_VALUE, MOST_CHANGES, difference
from tasks.redact import MASK


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [{"path": "data.a", "before": 1, "after": 2}]),
        ({"a": 1}, {"a": 1.0}, [{"path": "data.a", "before": 1, "after": 1.0}]),
        ({"a": 1}, {"a": True}, [{"path": "data.a", "before": 1, "after": True}]),
        ({}, {"a": None}, [{"path": "data.a", "after": None}]),
        ({"a": None}, {}, [{"path": "data.a", "before": None}]),
        (
            {"to": {"mail": "a", "name": "x"}},
            {"to": {"mail": "b", "name": "x"}},
            [{"path": "data.to.mail", "before": "a", "after": "b"}],
        ),
        (
            {"a": [1, 2]},
            {"a": [1, 3, 4]},
            [
                {"path": "data.a[1]", "before": 2, "after": 3},
                {"path": "data.a[2]", "after": 4},
            ],
        ),
        ({"a": [1]}, {"a": {"b": 1}}, [{"path": "data.a", "before": [1], "after": {"b": 1}}]),
    ],
)
def test_each_changed_value_stands_with_its_path(before, after, expected):
    assert difference(before, after) == expected


def test_that_a_secret_changed_is_said_and_what_it_is_is_not():
    before = {"password": "hunter2", "card": {"number": "4111"}, "url": "https://a:pw1@h/"}
    after = {"password": "hunter3", "card": {"number": "4222"}, "url": "https://a:pw2@h/"}
    changes = difference(before, after)
    assert [change["path"] for change in changes] == ["data.password", "data.card", "data.url"]
    for secret in ("hunter", "4111", "4222", "pw1", "pw2"):
        assert secret not in str(changes)
    assert changes[0] == {"path": "data.password", "before": MASK, "after": MASK}


def test_a_secret_that_appears_or_goes_is_not_shown():
    assert difference({}, {"token": "abc"}) == [{"path": "data.token", "after": MASK}]
    assert difference({"x": {"token": "abc"}}, {}) == [
        {"path": "data.x", "before": {"token": MASK}}
    ]


def test_it_stays_short_whatever_changed():
    before = {str(i): "x" * 5000 for i in range(300)}
    changes = difference(before, {})
    assert len(changes) == MOST_CHANGES
    assert all(len(change["before"]) == LONGEST_VALUE + 1 for change in changes)
    assert len(difference({"a": list(range(5000))}, {})[0]["before"]) == LONGEST_VALUE + 1
