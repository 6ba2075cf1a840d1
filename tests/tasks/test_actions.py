"""What staff and host code do by hand: the moves from state to state."""

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils import timezone

from tasks import enqueue
from tasks.exceptions import ReasonMissing, TransitionRefused, UniqueKeyTaken
from tasks.models import State, Task, TaskEvent
from tasks.signals import staff_acted
from tests.tasks.admin_rows import in_state
from tests.tasks.tools import finish, start, state_of, threads, wait_until_blocked

db = pytest.mark.django_db
races = pytest.mark.django_db(transaction=True)

ALLOWED = {
    "retry": {"completed", "failed", "cancelled"},
    "run_again": {"completed"},
    "run_now": {"later", "retrying"},
    "cancel": {"waiting", "later", "due", "retrying"},
    "complete": {"failed", "cancelled"},
    "change_data": {"waiting", "later", "due", "retrying", "failed", "cancelled"},
}
SHOWN_STATES = (
    "waiting",
    "later",
    "due",
    "running",
    "retrying",
    "failed",
    "completed",
    "cancelled",
)
REFUSED = [
    (action, state)
    for action, allowed in ALLOWED.items()
    for state in SHOWN_STATES
    if state not in allowed
]
OPTIONS: dict[str, dict[str, Any]] = {
    "run_again": {"reason": "r"},
    "change_data": {"data": {"n": 2}, "reason": "r"},
}


def task_in(state: str) -> Task:
    if state == State.WAITING:
        return enqueue("math.sum", after=[enqueue("math.add")])
    task = enqueue("math.add")
    if state == State.RUNNING:
        return start(task)
    return task if state == State.SCHEDULED else finish(task, state, reason="r", fingerprint="f")


@db
@pytest.mark.parametrize(("action", "state"), REFUSED, ids=str)
def test_an_action_is_refused_in_the_wrong_state_and_changes_nothing(
    action: str, state: str
) -> None:
    task = in_state(state)
    TaskEvent.objects.all().delete()
    before = Task.objects.filter(pk=task.pk).values().get()
    with pytest.raises(TransitionRefused) as caught:
        getattr(task, action)(by="eve", **OPTIONS.get(action, {}))
    assert f"Task {task.pk}" in str(caught.value)
    assert caught.value.state == task.shown_state
    assert Task.objects.filter(pk=task.pk).values().get() == before
    assert not task.events.exists()


@db
@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_a_retried_task_is_due_again_with_an_attempt_left_and_a_clean_face(state: str) -> None:
    task = enqueue("math.add", max_attempts=1)
    finish(task, state, result="1", reason="r", fingerprint="f", started_at=timezone.now())
    lease = task.lease
    task.retry()
    task.refresh_from_db()
    assert (task.state, task.due, task.shown_state) == (State.SCHEDULED, True, "due")
    assert (task.attempts, task.max_attempts) == (1, 2)
    assert (task.result, task.reason, task.fingerprint, task.progress_value) == (None, "", "", None)
    assert (task.started_at, task.finished_at, task.worker_id) == (None, None, None)
    assert task.lease == lease, "a lease only ever grows"
    assert task.run_at <= timezone.now()


@db
def test_every_retry_allows_as_many_attempts_as_the_task_was_created_with() -> None:
    task = start(enqueue("math.add", max_attempts=5))
    task.failures.create(attempt=1, exception="x.Y")
    Task.objects.filter(pk=task.pk).update(state=State.FAILED, finished_at=timezone.now())
    task.retry()
    assert task.max_attempts == 1 + 5
    Task.objects.filter(pk=task.pk).update(
        state=State.FAILED, due=False, attempts=6, finished_at=timezone.now()
    )
    task.retry()
    assert task.max_attempts == 6 + 5
    assert task.failures.count() == 1


@db
def test_a_cancelled_task_takes_what_waits_for_it_along() -> None:
    task = enqueue("math.add", unique_key="5")
    dependent = enqueue("math.sum", after=[task])
    task.cancel(by="eve", reason="customer\nwithdrew")
    assert (task.state, task.due, task.live_key) == (State.CANCELLED, False, None)
    assert task.reason == "cancelled by eve: customer withdrew"
    assert task.finished_at is not None
    assert state_of(dependent) == State.CANCELLED


@db
def test_a_task_marked_as_done_lets_what_waits_for_it_go_on() -> None:
    task = enqueue("math.add")
    dependent = enqueue("math.sum", after=[task])
    finish(task, State.FAILED)
    task.complete(by="eve")
    assert (task.state, task.reason) == (State.COMPLETED, "marked as done by eve")
    assert state_of(dependent) == State.SCHEDULED


@db
@pytest.mark.parametrize(
    ("by", "who"),
    [
        (None, ""),
        ("nightly job", "nightly job"),
        (User(username="eve"), "eve"),
        (AnonymousUser(), ""),
        ("x\x00" + "y" * 500, "x\ufffd" + "y" * 142 + "…"),
    ],
)
def test_an_event_says_who_did_what_and_why(by: object, who: str) -> None:
    task = task_in(State.FAILED)
    task.retry(by=by, reason="because\x00")
    task.cancel(by=by)
    first, second = task.events.all()
    assert (first.who, first.action, first.reason) == (who, "retry", "because\ufffd")
    assert (second.who, second.action, second.reason) == (who, "cancel", "")
    assert first.at <= second.at <= timezone.now()


@db
def test_listeners_hear_of_an_action_only_after_its_commit(
    django_capture_on_commit_callbacks: Any,
) -> None:
    heard: list[str] = []

    def listen(using: str, event: Any, **kwargs: Any) -> None:
        heard.append(f"{using} {event.action} {event.task_id}")

    staff_acted.connect(listen)
    try:
        task = task_in(State.SCHEDULED)
        with django_capture_on_commit_callbacks(execute=True):
            task.cancel()
            assert heard == []
    finally:
        staff_acted.disconnect(listen)
    assert heard == [f"default cancel {task.pk}"]


@db
def test_an_action_rolled_back_leaves_no_event() -> None:
    task = task_in(State.FAILED)
    with transaction.atomic():
        task.retry()
        transaction.set_rollback(True)
    assert state_of(task) == State.FAILED
    assert not task.events.exists()


@db
def test_a_retried_task_takes_its_unique_key_back() -> None:
    task = finish(enqueue("crm.sync", unique_key="5"), State.FAILED)
    task.retry()
    assert enqueue("crm.sync", unique_key="5") == task


@db
def test_a_retry_is_refused_while_another_task_has_the_key() -> None:
    task = finish(enqueue("crm.sync", unique_key="5"), State.FAILED)
    other = enqueue("crm.sync", unique_key="5")
    with pytest.raises(UniqueKeyTaken, match=f"task {other.pk} has the same") as caught:
        task.retry()
    assert caught.value.other == other.pk
    assert state_of(task) == State.FAILED
    finish(other)
    task.retry()
    assert task.state == State.SCHEDULED


@db
@pytest.mark.parametrize(
    ("prerequisite", "then"),
    [
        (State.COMPLETED, State.SCHEDULED),
        (State.CANCELLED, State.SCHEDULED),
        (State.FAILED, State.WAITING),
        (State.SCHEDULED, State.WAITING),
    ],
)
def test_a_retried_task_waits_for_what_can_still_complete(prerequisite: str, then: str) -> None:
    first = enqueue("math.add")
    task = enqueue("math.sum", after=[first])
    finish(first)
    finish(task, State.FAILED)
    if prerequisite != State.COMPLETED:
        first.retry()
    if prerequisite in (State.CANCELLED, State.FAILED):
        finish(first, prerequisite)
    task.retry()
    assert (task.state, task.due) == (then, then == State.SCHEDULED)
    if then == State.WAITING:
        if prerequisite == State.FAILED:
            first.retry()
        finish(first)
        assert state_of(task) == State.SCHEDULED


@db
def test_who_is_retried_beside_a_cancelled_prerequisite_waits_only_for_the_others() -> None:
    cancelled, failed = enqueue("math.add"), enqueue("math.add")
    task = enqueue("math.sum", after=[cancelled, failed])
    finish(failed, State.FAILED)
    cancelled.cancel()
    task.retry()
    assert task.state == State.WAITING
    failed.complete()
    assert state_of(task) == State.SCHEDULED


@db
def test_an_action_on_a_task_that_was_deleted_says_so() -> None:
    task = task_in(State.FAILED)
    Task.objects.filter(pk=task.pk).delete()
    with pytest.raises(Task.DoesNotExist):
        task.retry()


@db
def test_a_completed_task_runs_again_only_with_a_reason() -> None:
    task = task_in(State.COMPLETED)
    with pytest.raises(ReasonMissing):
        task.run_again(reason=" ")
    assert state_of(task) == State.COMPLETED
    task.run_again(by="eve", reason="the mail bounced")
    assert (task.shown_state, task.events.get().action) == ("due", "run_again")


@db
@pytest.mark.parametrize("state", ["later", "retrying"])
def test_a_task_that_runs_now_is_due_and_nothing_else_changes(state: str) -> None:
    task = in_state(state)
    before = Task.objects.filter(pk=task.pk).values().get()
    task.run_now(by="eve", reason="the customer waits")
    after = Task.objects.filter(pk=task.pk).values().get()
    assert after.pop("run_at") <= timezone.now()
    del before["run_at"]
    assert after == {**before, "due": True}
    event = task.events.get()
    assert (event.who, event.action, event.reason) == ("eve", "run_now", "the customer waits")


@races
@pytest.mark.parametrize(
    ("action", "state"),
    [("retry", State.FAILED), ("cancel", State.SCHEDULED), ("complete", State.FAILED)],
)
def test_of_two_people_who_press_one_button_the_second_is_refused(action: str, state: str) -> None:
    task = task_in(state)
    theirs = Task.objects.get(pk=task.pk)
    with threads(1) as run:
        with transaction.atomic():
            getattr(task, action)(by="adam")
            second = run(lambda: getattr(theirs, action)(by="eve"))
            wait_until_blocked()
        with pytest.raises(TransitionRefused):
            second.result(10)
    assert task.events.get().who == "adam"


@races
def test_a_retry_that_meets_a_key_taken_at_the_same_moment_says_so() -> None:
    task = finish(enqueue("crm.sync", unique_key="5"), State.FAILED)
    with threads(1) as run:
        with transaction.atomic():
            enqueue("crm.sync", unique_key="5")
            theirs = run(task.retry)
            wait_until_blocked()
        with pytest.raises(UniqueKeyTaken):
            theirs.result(10)
    assert state_of(task) == State.FAILED


@races
def test_a_task_cannot_be_cancelled_once_a_worker_has_claimed_it() -> None:
    task = task_in(State.SCHEDULED)
    with threads(1) as run:
        with transaction.atomic():
            start(Task.objects.get(pk=task.pk))
            theirs = run(task.cancel)
            wait_until_blocked()
        with pytest.raises(TransitionRefused, match="is running"):
            theirs.result(10)
