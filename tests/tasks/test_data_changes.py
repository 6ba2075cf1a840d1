"""Other data for a task, by hand: checked, kept, told without secrets, never while it runs."""

import json

import pytest
from django.core.exceptions import ValidationError
from django.db import transaction

from tasks import enqueue, handler
from tasks.exceptions import (
    DataRefused,
    DataTooLarge,
    InvalidData,
    NothingToRestore,
    ReasonMissing,
    TransitionRefused,
    UniqueKeyTaken,
)
from tasks.models import SearchKey, State, Task, TaskEvent
from tests.tasks.admin_rows import in_state
from tests.tasks.tools import finish, start, state_of, threads, wait_until_blocked
from workers.claim import claim

db = pytest.mark.django_db
races = pytest.mark.django_db(transaction=True)


def data_of(task: Task) -> object:
    return Task.objects.get(pk=task.pk).data


@db
def test_the_old_data_is_kept_and_the_difference_told_without_secrets() -> None:
    task = enqueue("math.add", {"n": 1, "password": "hunter2", "same": [1]})
    task.change_data({"n": 2, "password": "other", "same": [1]}, by="eve", reason="wrong sum")
    assert task.data == {"n": 2, "password": "other", "same": [1]}
    event = task.events.get()
    assert (event.who, event.action, event.reason) == ("eve", "change_data", "wrong sum")
    assert event.before == {"n": 1, "password": "hunter2", "same": [1]}
    assert event.difference == [
        {"path": "data.n", "before": 1, "after": 2},
        {"path": "data.password", "before": "[redacted]", "after": "[redacted]"},
    ]


@db
@pytest.mark.parametrize("state", ["failed", "cancelled", "completed"])
def test_it_can_be_retried_with_its_new_data_in_one_event(state: str) -> None:
    task = in_state(state, data={"n": 1})
    TaskEvent.objects.all().delete()
    task.change_data({"n": 2}, by="eve", reason="r", retry=True)
    assert (task.shown_state, task.data) == ("due", {"n": 2})
    assert [event.action for event in task.events.all()] == ["change_and_retry"]


@db
@pytest.mark.parametrize("state", ["waiting", "due", "later"])
def test_what_is_not_finished_is_not_retried(state: str) -> None:
    task = in_state(state, data={"n": 1})
    with pytest.raises(TransitionRefused, match="retried"):
        task.change_data({"n": 2}, reason="r", retry=True)
    assert data_of(task) == {"n": 1}


@db
def test_a_retry_that_is_refused_leaves_the_data() -> None:
    task = finish(enqueue("crm.sync", {"n": 1}, unique_key="5"), State.FAILED)
    enqueue("crm.sync", unique_key="5")
    with pytest.raises(UniqueKeyTaken):
        task.change_data({"n": 2}, reason="r", retry=True)
    assert (state_of(task), data_of(task)) == ("failed", {"n": 1})
    assert not task.events.exists()


@db
@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([1], InvalidData),
        ({"a": {1}}, InvalidData),
        ({"a": "\x00"}, InvalidData),
        ({"a": "x" * 2_000_000}, DataTooLarge),
    ],
    ids=["list", "set", "nul", "large"],
)
def test_data_that_cannot_be_stored_is_refused(data: object, error: type[Exception]) -> None:
    task = enqueue("math.add", {"n": 1})
    with pytest.raises(error):
        task.change_data(data, reason="r")  # type: ignore[arg-type]
    assert data_of(task) == {"n": 1}


@db
@pytest.mark.parametrize(
    ("raised", "why"),
    [
        (ValueError("no such account"), "no such account"),
        (ValidationError(["first", "second"]), "first second"),
        (KeyError("to"), "KeyError: 'to'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_handlers_check_decides(raised: Exception, why: str) -> None:
    def check(data: object) -> None:
        raise raised

    handler("math.checked", validate=check)(print)
    task = enqueue("math.checked", {"n": 1})
    with pytest.raises(DataRefused) as caught:
        task.change_data({"n": 2}, reason="r")
    assert caught.value.why == why
    assert data_of(task) == {"n": 1}


@db
def test_a_reason_is_required() -> None:
    task = enqueue("math.add", {"n": 1})
    with pytest.raises(ReasonMissing):
        task.change_data({"n": 2}, reason="")


@db
def test_what_the_caller_changes_later_does_not_reach_the_task() -> None:
    task = enqueue("math.add", {"n": 1})
    given = {"n": [2]}
    task.change_data(given, reason="r")
    given["n"].append(3)
    assert data_of(task) == {"n": [2]}
    assert task.data == {"n": [2]}


@db
def test_tasks_are_found_by_their_new_data() -> None:
    handler("math.found", search=["customer.id"])(print)
    task = enqueue("math.found", {"customer": {"id": 17}})
    task.change_data({"customer": {"id": 18}}, reason="r")
    assert list(SearchKey.objects.filter(task=task).values_list("value", flat=True)) == ["18"]


@db
def test_restored_data_is_what_it_was_before_and_can_be_taken_back_again() -> None:
    task = enqueue("math.add", {"n": 1})
    task.change_data({"n": 2}, reason="r")
    task.restore(task.events.get(), by="eve", reason="no")
    assert task.data == {"n": 1}
    restored = task.events.last()
    assert restored is not None
    assert (restored.action, restored.before) == ("restore", {"n": 2})
    assert restored.difference == [{"path": "data.n", "before": 2, "after": 1}]
    task.restore(restored)
    assert task.data == {"n": 2}


@db
def test_only_a_change_of_the_task_itself_is_restored() -> None:
    task, other = enqueue("math.add", {"n": 1}), enqueue("math.add", {"n": 1})
    other.change_data({"n": 2}, reason="r")
    with pytest.raises(NothingToRestore):
        task.restore(other.events.get())
    task.cancel(by="eve")
    with pytest.raises(NothingToRestore):
        task.restore(task.events.get())
    assert data_of(task) == {"n": 1}


@db
def test_what_is_back_already_is_not_restored_once_more() -> None:
    task = enqueue("math.add", {"n": 1})
    task.change_data({"n": 2}, reason="r")
    changed = task.events.get()
    task.restore(changed)
    with pytest.raises(NothingToRestore):
        task.restore(changed)
    assert data_of(task) == {"n": 1}
    assert task.events.count() == 2


@db
@pytest.mark.parametrize("state", ["running", "completed"])
def test_nothing_is_restored_where_data_cannot_change(state: str) -> None:
    task = in_state(state, data={"n": 1})
    event = TaskEvent.objects.create(task=task, action="change_data", before={"n": 0})
    with pytest.raises(TransitionRefused):
        task.restore(event)
    assert data_of(task) == {"n": 1}


@db
def test_an_event_keeps_old_data_that_only_looks_like_nothing() -> None:
    task = enqueue("math.add", {})
    task.change_data({"n": 1}, reason="r")
    assert json.dumps(task.events.get().before) == "{}"
    task.restore(task.events.get())
    assert task.data == {}


@races
def test_a_worker_that_claims_meanwhile_runs_with_the_new_data_or_keeps_the_old() -> None:
    """Whoever locks the row first decides; never does a handler run with data replaced under it."""
    for _ in range(10):
        task = enqueue("math.race", {"n": 1}, queue="race")
        with threads(2) as run:
            claimed = run(claim, "default", "race", 1, 4711)
            changed = run(_changed, task)
            taken = claimed.result(30) or claim("default", "race", 1, 4711)
            expected = {"n": 2} if changed.result(30) else {"n": 1}
        if not taken:
            taken = claim("default", "race", 1, 4711)
        assert [row.data for row in taken] == [expected]
        assert data_of(task) == expected


def _changed(task: Task) -> bool:
    try:
        task.change_data({"n": 2}, reason="r")
    except TransitionRefused:
        return False
    return True


@races
def test_a_change_that_waits_for_a_claim_is_refused() -> None:
    task = enqueue("math.add", {"n": 1})
    with threads(1) as run:
        with transaction.atomic():
            start(Task.objects.get(pk=task.pk))
            theirs = run(_changed, task)
            wait_until_blocked()
        assert theirs.result(30) is False
    assert data_of(task) == {"n": 1}


@races
def test_of_two_changes_at_once_the_second_knows_the_first() -> None:
    task = enqueue("math.add", {"n": 1})
    with threads(1) as run:
        with transaction.atomic():
            task.change_data({"n": 2}, reason="first")
            theirs = run(_changed_to_three, task.pk)
            wait_until_blocked()
        theirs.result(30)
    assert [event.before for event in task.events.all()] == [{"n": 1}, {"n": 2}]


def _changed_to_three(pk: int) -> None:
    Task.objects.get(pk=pk).change_data({"n": 3}, reason="second")
