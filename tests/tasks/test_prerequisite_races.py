"""Two connections, one prerequisite: whoever commits second sees what the first has done."""

import threading
from typing import Any

import pytest
from django.db import transaction

from tasks import enqueue
from tasks.models import State, Task
from tasks.settle import settle, settle_own
from tests.services.waiting import wait_for
from tests.tasks.tools import (
    WORKER,
    ending,
    finish,
    start,
    state_of,
    threads,
    wait_until_blocked,
)

pytestmark = pytest.mark.django_db(transaction=True)


def settle_as_a_worker_does(task: Task, *, has_dependents: bool, state: str = "completed") -> None:
    """Until it is written: what is locked or has got dependents is tried again, now linked."""

    def written() -> bool:
        nonlocal has_dependents
        outcome = ending(task, state, has_dependents=has_dependents)
        done = task.pk in settle("default", WORKER, [outcome])
        has_dependents = True
        return done

    wait_for(written, what="the outcome to be written")


@pytest.mark.parametrize(
    ("state", "then"), [("completed", State.SCHEDULED), ("cancelled", State.CANCELLED)]
)
def test_a_prerequisite_that_ends_while_a_dependent_is_enqueued_wakes_it(
    state: str, then: str
) -> None:
    first = start(enqueue("math.add"))
    with threads(1) as run:
        with transaction.atomic():
            dependent = enqueue("math.sum", after=[first])
            assert dependent.state == State.WAITING
            entered = threading.Event()

            def settling() -> None:
                entered.set()
                settle_as_a_worker_does(first, has_dependents=False, state=state)

            theirs = run(settling)
            assert entered.wait(10)
        theirs.result(10)
    assert state_of(dependent) == then


def test_a_dependent_enqueued_while_its_prerequisite_ends_in_an_open_transaction() -> None:
    first = start(enqueue("math.add"))
    with threads(1) as run:
        with transaction.atomic():
            assert settle_own("default", WORKER, ending(first))
            theirs = run(lambda: enqueue("math.sum", after=[first]))
            wait_until_blocked()
        dependent = theirs.result(10)
    assert state_of(dependent) == State.SCHEDULED


def test_a_dependent_enqueued_while_the_end_of_its_prerequisite_is_rolled_back_waits() -> None:
    first = start(enqueue("math.add"))
    with threads(1) as run:
        with transaction.atomic():
            assert settle_own("default", WORKER, ending(first))
            theirs = run(lambda: enqueue("math.sum", after=[first]))
            wait_until_blocked()
            transaction.set_rollback(True)
        dependent = theirs.result(10)
    assert state_of(dependent) == State.WAITING
    settle_as_a_worker_does(first, has_dependents=True)
    assert state_of(dependent) == State.SCHEDULED


def test_two_prerequisites_settled_at_once_release_their_dependent(
    django_capture_on_commit_callbacks: Any,
) -> None:
    for _ in range(10):
        pair = [start(enqueue("math.add")) for _ in range(2)]
        dependent = enqueue("math.sum", after=pair)
        meeting = threading.Barrier(2)

        def settling(task: Task, meeting: threading.Barrier = meeting) -> None:
            meeting.wait(10)
            settle_as_a_worker_does(task, has_dependents=True)

        with threads(2) as run:
            for thread in [run(settling, task) for task in pair]:
                thread.result(20)
        assert state_of(dependent) == State.SCHEDULED


def test_of_two_atomic_handlers_that_end_at_once_the_second_releases_the_dependent() -> None:
    pair = [start(enqueue("math.add")) for _ in range(2)]
    dependent = enqueue("math.sum", after=pair)

    def settle_second() -> bool:
        with transaction.atomic():
            return settle_own("default", WORKER, ending(pair[1]))

    with threads(1) as run:
        with transaction.atomic():
            assert settle_own("default", WORKER, ending(pair[0]))
            theirs = run(settle_second)
            wait_until_blocked()
            assert state_of(dependent) == State.WAITING
        assert theirs.result(10)
    assert state_of(dependent) == State.SCHEDULED


def test_many_who_finish_and_enqueue_across_a_graph_leave_nothing_waiting() -> None:
    """Locks in id order: nobody meets a deadlock, nothing is forgotten."""
    layers = [[start(enqueue("layer.0")) for _ in range(6)]]
    first = layers[0]

    def grow(thread: int) -> None:
        for n in range(6):
            enqueue("layer.1", after=[first[(thread + n) % 6], first[(thread * n + 1) % 6]])

    def end(thread: int) -> None:
        for task in first[thread::2]:
            settle_as_a_worker_does(task, has_dependents=False)

    with threads(4) as run:
        running = [run(grow, 0), run(grow, 1), run(end, 0), run(end, 1)]
        for thread in running:
            thread.result(30)
    assert Task.objects.named("layer.0").completed().count() == 6
    assert Task.objects.named("layer.1").due().count() == 12


def test_staff_who_cancel_wait_for_a_dependent_that_is_being_enqueued() -> None:
    first = enqueue("math.add")
    with threads(1) as run:
        with transaction.atomic():
            dependent = enqueue("math.sum", after=[first])
            theirs = run(first.cancel)
            wait_until_blocked()
        theirs.result(10)
    assert state_of(dependent) == State.CANCELLED


def test_a_dependent_of_a_finished_task_is_not_disturbed_by_its_second_run() -> None:
    first = finish(enqueue("math.add"))
    dependent = start(enqueue("math.sum", after=[first]))
    first.retry()
    finish(first)
    assert state_of(dependent) == State.RUNNING
