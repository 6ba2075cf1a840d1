"""What may be a task's data: exactly what comes back as it was passed."""

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.utils.functional import lazystr
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tasks import build, enqueue
from tasks.exceptions import DataTooLarge, InvalidData, InvalidTask
from tasks.models import Task

pytestmark = pytest.mark.django_db

DEEPEST = 31


def nested(levels: int, innermost: Any = None) -> Any:
    value: Any = {"x": innermost}
    for _ in range(levels - 1):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("data", "path", "why"),
    [
        ([1], "data", "is list"),
        ("text", "data", "is str"),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC)}, "data.at", "is datetime"),
        ({"sum": Decimal("1.5")}, "data.sum", "is Decimal"),
        ({"raw": b"x"}, "data.raw", "is bytes"),
        ({"all": {1, 2}}, "data.all", "is set"),
        ({"word": lazystr("x")}, "data.word", "is __proxy__"),
        ({"lines": [{"sku": "a"}, {"sku": object()}]}, "data.lines[1].sku", "is object"),
        ({"a": {"b": math.nan}}, "data.a.b", "is nan"),
        ({"a": [0, math.inf]}, "data.a[1]", "is inf"),
        ({"a": (-math.inf,)}, "data.a[0]", "is -inf"),
        ({"a": "x\x00y"}, "data.a", "NUL"),
        ({"a": "x\ud800y"}, "data.a", "surrogate"),
        ({"a": {"\x00": 1}}, "data.a", "NUL"),
        ({"a": {"\udfff": 1}}, "data.a", "surrogate"),
        ({"a": {1: 2}}, "data.a", "has the key 1"),
        ({None: 2}, "data", "has the key None"),
        ({"n": [10**5000]}, "data.n[0]", "4,000 digits"),
        (nested(DEEPEST + 1, {}), "data.x.x", "deeper than"),
    ],
)
def test_data_that_would_not_come_back_is_refused_naming_its_path(
    data: Any, path: str, why: str
) -> None:
    with pytest.raises(InvalidData) as caught:
        enqueue("math.add", data)
    assert "'math.add'" in str(caught.value)
    assert f" {path}" in str(caught.value)
    assert why in str(caught.value)
    assert not Task.objects.exists()


def test_data_that_contains_itself_is_refused() -> None:
    data: dict[str, Any] = {}
    data["self"] = data
    with pytest.raises(InvalidData, match="deeper"):
        enqueue("math.add", data)


def test_the_deepest_data_that_is_accepted_is_written() -> None:
    data = nested(DEEPEST - 1, 1)
    task = enqueue("math.add", data)
    assert Task.objects.get(pk=task.pk).data == data


def test_data_above_the_limit_is_refused_with_both_sizes(settings: Any) -> None:
    settings.AFTERSAVE = {"DATA_LIMIT": 2000}
    enqueue("math.add", {"x": "a" * 1900})
    with pytest.raises(DataTooLarge, match=r"2,009 bytes of JSON, the limit is 2,000"):
        enqueue("math.add", {"x": "a" * 2000})
    assert Task.objects.count() == 1


def test_the_limit_counts_bytes_not_characters(settings: Any) -> None:
    settings.AFTERSAVE = {"DATA_LIMIT": 2000}
    with pytest.raises(DataTooLarge):
        enqueue("math.add", {"x": "€" * 700})


def test_a_mebibyte_is_the_limit_unless_the_host_says_otherwise() -> None:
    room = 1024 * 1024 - len('{"x": ""}')
    enqueue("math.add", {"x": "a" * room})
    with pytest.raises(DataTooLarge):
        enqueue("math.add", {"x": "a" * (room + 1)})


def test_every_refusal_is_a_value_error_of_one_root() -> None:
    with pytest.raises(InvalidTask):
        enqueue("math.add", {"x": math.nan})
    with pytest.raises(ValueError, match="not a task name"):
        enqueue("add")


def test_no_data_is_an_empty_object() -> None:
    assert Task.objects.get(pk=enqueue("math.add").pk).data == {}


def test_what_the_caller_changes_after_build_does_not_reach_the_task() -> None:
    data: dict[str, Any] = {"n": 1, "lines": []}
    task = build("math.add", data)
    data["n"] = math.nan
    data["lines"].append(object())
    assert task.data == {"n": 1, "lines": []}


def test_a_task_in_memory_has_the_data_that_a_worker_will_see() -> None:
    task = enqueue("math.add", {"pair": (1, 2)})
    assert task.data == Task.objects.get(pk=task.pk).data == {"pair": [1, 2]}


storable_text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
# PostgreSQL gives large floats back as integers of as many digits as were written.
storable_floats = st.floats(-1e15, 1e15)
storable = st.recursive(
    st.none() | st.booleans() | st.integers() | storable_floats | storable_text,
    lambda inner: st.lists(inner) | st.dictionaries(storable_text, inner),
    max_leaves=12,
)


@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.dictionaries(storable_text, storable))
def test_accepted_data_comes_back_from_the_database_as_it_was(data: dict[str, Any]) -> None:
    task = enqueue("math.add", data)
    assert Task.objects.get(pk=task.pk).data == data


anything = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
    | st.builds(lambda: 10**4500),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.dictionaries(st.text(), anything))
def test_data_is_either_refused_at_the_call_or_comes_back(data: dict[str, Any]) -> None:
    try:
        task = enqueue("math.add", data)
    except InvalidTask:
        return
    assert Task.objects.get(pk=task.pk).data.keys() == data.keys()
