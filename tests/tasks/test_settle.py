"""The only door to a final state, behind its fence."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from tasks import build, enqueue, enqueue_many
from tasks.models import Failure, State, Task
from tasks.settle import settle, settle_own
from tasks.signals import tasks_settled
from tests.tasks.tools import WORKER, ending, finish, start, state_of

pytestmark = pytest.mark.django_db

PLAIN, LINKED = False, True


@pytest.fixture(params=[PLAIN, LINKED], ids=["plain", "linked"])
def task(request: pytest.FixtureRequest) -> Task:
    """A running task; linked, another one waits for it."""
    task = enqueue("math.add", unique_key="5")
    if request.param is LINKED:
        enqueue("math.sum", after=[task])
    return start(task)


def failure_of(task: Task) -> Failure:
    return Failure(task=task, attempt=task.attempts, worker_id=WORKER, exception="x.Y", message="m")


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_the_holder_brings_its_task_to_each_final_state(task: Task, state: str) -> None:
    outcome = ending(task, state, result='{"a":1}', reason="r", fingerprint="f")
    assert settle("default", WORKER, [outcome]) == {task.pk}
    task.refresh_from_db()
    assert (task.state, task.result, task.reason, task.fingerprint) == (state, {"a": 1}, "r", "f")
    assert (task.due, task.live_key, task.attempts) == (False, None, 1)
    assert task.finished_at is not None
    # SQLite cuts its clock to whole milliseconds.
    assert task.finished_at >= task.created_at - timedelta(milliseconds=1)


@pytest.mark.parametrize(("worker", "lease"), [(WORKER + 1, 0), (WORKER, 1), (WORKER, -1)], ids=str)
def test_who_does_not_hold_a_task_under_its_lease_changes_nothing(
    task: Task, worker: int, lease: int
) -> None:
    outcome = ending(task, lease=task.lease + lease, failure=failure_of(task), result="1")
    assert settle("default", worker, [outcome]) == set()
    before = task.lease
    task.refresh_from_db()
    assert (task.state, task.lease, task.result) == (State.RUNNING, before, None)
    assert not Failure.objects.exists()
    assert not Task.objects.completed().exists()


@pytest.mark.parametrize("state", [State.SCHEDULED, State.CANCELLED, State.COMPLETED])
def test_a_task_that_does_not_run_cannot_be_settled(task: Task, state: str) -> None:
    if state == State.SCHEDULED:
        Task.objects.filter(pk=task.pk).update(state=state)
    else:
        assert settle("default", WORKER, [ending(task, state)])
    before = Task.objects.filter(pk=task.pk).values().get()
    assert settle("default", WORKER, [ending(task, State.FAILED)]) == set()
    assert Task.objects.filter(pk=task.pk).values().get() == before


def test_a_failure_is_written_with_the_outcome(task: Task) -> None:
    outcome = ending(task, State.FAILED, failure=failure_of(task), fingerprint="f")
    assert settle("default", WORKER, [outcome]) == {task.pk}
    failure = task.failures.get()
    assert (failure.attempt, failure.exception, failure.worker_id) == (1, "x.Y", WORKER)


def test_of_one_batch_the_held_ones_are_written_and_only_their_failures() -> None:
    held, lost, linked = (enqueue("math.add") for _ in range(3))
    dependent = enqueue("math.sum", after=[linked])
    for task in (held, lost, linked):
        start(task)
    start_again = Task.objects.filter(pk=lost.pk)
    start_again.update(lease=99)
    outcomes = [ending(task, failure=failure_of(task)) for task in (lost, linked, held)]
    assert settle("default", WORKER, outcomes) == {held.pk, linked.pk}
    assert set(Failure.objects.values_list("task_id", flat=True)) == {held.pk, linked.pk}
    assert state_of(dependent) == State.SCHEDULED


def test_a_task_that_got_dependents_since_its_claim_is_left_for_the_linked_path() -> None:
    task = start(enqueue("math.add"))
    enqueue("math.sum", after=[task])
    assert settle("default", WORKER, [ending(task, has_dependents=False)]) == set()
    assert settle("default", WORKER, [ending(task, has_dependents=True)]) == {task.pk}


def test_no_endings_ask_nothing(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert settle("default", WORKER, []) == set()


def test_a_hundred_plain_endings_take_few_statements(
    django_assert_max_num_queries: Any, settings: Any
) -> None:
    tasks = [start(task) for task in enqueue_many(build("math.add") for _ in range(100))]
    # Databases without UPDATE ... FROM write row by row, in one transaction.
    with django_assert_max_num_queries(110) as queries:
        assert len(settle("default", WORKER, [ending(task) for task in tasks])) == 100
    vendor = transaction.get_connection().vendor
    assert vendor != "postgresql" or len(queries.captured_queries) == 1


@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_an_atomic_handler_settles_inside_its_own_transaction(task: Task, state: str) -> None:
    with transaction.atomic():
        assert settle_own("default", WORKER, ending(task, state, result="1")) is True
        transaction.set_rollback(True)
    assert state_of(task) == State.RUNNING
    with transaction.atomic():
        assert settle_own("default", WORKER, ending(task, state, result="1")) is True
    assert state_of(task) == state
    with transaction.atomic():
        assert settle_own("default", WORKER, ending(task, state)) is False


def test_an_atomic_handler_that_lost_its_lease_is_told() -> None:
    task = start(enqueue("math.add"))
    with transaction.atomic():
        assert settle_own("default", WORKER + 1, ending(task)) is False
        assert settle_own("default", WORKER, ending(task, lease=task.lease + 1)) is False
    assert state_of(task) == State.RUNNING


def chain(length: int) -> list[Task]:
    tasks = [build("chain.0")]
    for n in range(1, length):
        tasks.append(build(f"chain.{n}", after=[tasks[-1]], unique_key=str(n)))
    return enqueue_many(tasks)


def test_a_cancelled_task_cancels_all_that_wait_below_it() -> None:
    tasks = chain(5)
    finish(tasks[0], State.CANCELLED)
    for task in tasks[1:]:
        task.refresh_from_db()
        assert task.state == State.CANCELLED
        assert task.finished_at is not None
        assert task.live_key is None
        assert "cancelled" in task.reason


def test_a_failed_task_leaves_its_dependents_waiting() -> None:
    tasks = chain(3)
    finish(tasks[0], State.FAILED)
    assert [state_of(task) for task in tasks[1:]] == [State.WAITING, State.WAITING]


def test_a_completed_task_releases_only_its_direct_dependents() -> None:
    tasks = chain(3)
    finish(tasks[0])
    assert [state_of(task) for task in tasks[1:]] == [State.SCHEDULED, State.WAITING]


def test_a_cancelled_task_does_not_touch_what_lies_below_a_finished_one() -> None:
    """It was run a second time by staff; its first run had released what is below."""
    first = enqueue("chain.a")
    second = enqueue("chain.b", after=[first])
    other = enqueue("chain.x")
    third = enqueue("chain.c", after=[second, other])
    finish(first)
    finish(second)
    first.retry()
    first.cancel()
    assert state_of(second) == State.COMPLETED
    assert state_of(third) == State.WAITING
    finish(other)
    assert state_of(third) == State.SCHEDULED


def test_a_diamond_is_released_once_by_its_last_side() -> None:
    top = build("chain.top")
    sides = [build("chain.side", after=[top]) for _ in range(3)]
    bottom = build("chain.bottom", after=sides)
    enqueue_many([top, *sides, bottom])
    finish(top)
    outcomes = [ending(start(side)) for side in sides]
    assert len(settle("default", WORKER, outcomes[:2])) == 2
    assert state_of(bottom) == State.WAITING
    assert len(settle("default", WORKER, outcomes[2:])) == 1
    assert state_of(bottom) == State.SCHEDULED


def test_in_one_batch_a_cancelled_prerequisite_outweighs_a_completed_one() -> None:
    pair = [enqueue("math.add") for _ in range(2)]
    dependent = enqueue("math.sum", after=pair)
    outcomes = [
        ending(start(task), state)
        for task, state in zip(pair, (State.COMPLETED, State.CANCELLED), strict=True)
    ]
    assert settle("default", WORKER, outcomes) == {task.pk for task in pair}
    assert state_of(dependent) == State.CANCELLED


def test_listeners_hear_what_was_settled_after_the_commit(
    task: Task, django_capture_on_commit_callbacks: Any
) -> None:
    heard: list[tuple[str, list[tuple[int, str]]]] = []

    def listen(using: str, settled: list[tuple[int, str]], **kwargs: Any) -> None:
        heard.append((using, settled))

    tasks_settled.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            settle("default", WORKER, [ending(task)])
            assert heard == []
        settle("default", WORKER, [ending(task)])
    finally:
        tasks_settled.disconnect(listen)
    assert heard == [("default", [(task.pk, "completed")])]


@pytest.mark.parametrize("by", ["worker", "staff"])
def test_listeners_hear_of_what_is_cancelled_with_its_prerequisite(
    by: str, django_capture_on_commit_callbacks: Any
) -> None:
    heard: list[tuple[int, str]] = []

    def listen(settled: list[tuple[int, str]], **kwargs: Any) -> None:
        heard.extend(settled)

    first = enqueue("math.add")
    below = enqueue("math.add", after=[first])
    last = enqueue("math.add", after=[below])
    tasks_settled.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            if by == "staff":
                first.cancel(reason="not wanted")
            else:
                first.refresh_from_db()
                settle("default", WORKER, [ending(start(first), State.CANCELLED)])
    finally:
        tasks_settled.disconnect(listen)
    assert sorted(heard) == [(task.pk, "cancelled") for task in (first, below, last)]
