import threading
import time
from datetime import timedelta
from typing import Any

import pytest

from tasks import Snooze, enqueue, handler
from tasks.exceptions import InvalidHandler, InvalidTask
from tasks.handlers import registry
from tasks.models import Queue, State, Task
from tasks.names import OWN
from tests.workers.tools import ME, OTHER, attempt, claimed, flusher, forget_all_handlers
from workers.attempt import Clock, Later
from workers.claim import claim
from workers.execute import execute
from workers.hands import Hands
from workers.lanes import Lanes
from workers.look import due_queues, look
from workers.outcomes import reschedule
from workers.testing import run_tasks

pytestmark = pytest.mark.django_db(transaction=True)


def snoozing(after: float = 60) -> Any:
    def perform(task: Task) -> None:
        raise Snooze(after)

    return perform


def snoozed(task: Task, after: float = 60) -> Later:
    outcome = execute(attempt(task, snoozing(after)))
    assert isinstance(outcome, Later)
    return outcome


def test_a_task_that_snoozes_is_scheduled_again_without_a_failure_or_a_lost_attempt() -> None:
    task = claimed(enqueue("work.noop", max_attempts=1))
    later = snoozed(task)

    assert reschedule("default", ME, [later]) == {task.pk}

    task.refresh_from_db()
    assert (task.state, task.due, task.attempts) == (State.SCHEDULED, False, 0)
    assert abs(task.run_at - Clock().now() - timedelta(seconds=60)) < timedelta(seconds=5)
    assert not task.failures.exists()
    assert task.shown_state == "later"


def test_attempts_lost_before_stay_counted_when_a_task_snoozes() -> None:
    task = enqueue("work.noop")
    Task.objects.filter(pk=task.pk).update(attempts=2)
    later = snoozed(claimed(task))
    reschedule("default", ME, [later])
    task.refresh_from_db()
    assert task.attempts == 2


def test_who_lost_the_lease_cannot_send_the_task_to_sleep() -> None:
    task = claimed(enqueue("work.noop"))
    later = snoozed(task)
    Task.objects.filter(pk=task.pk).update(lease=task.lease + 1, worker_id=OTHER)

    assert reschedule("default", ME, [later]) == set()

    task.refresh_from_db()
    assert (task.state, task.worker_id, task.attempts) == (State.RUNNING, OTHER, 1)


def test_what_a_snoozing_handler_said_is_kept() -> None:
    @handler("work.sleepy")
    def sleepy(task: Task) -> None:
        if not task.log_lines.exists():
            task.log("half of it is done")
            task.progress(1, 2)
            raise Snooze(3600)

    task = enqueue("work.sleepy")
    run_tasks()
    task.refresh_from_db()
    assert [line.text for line in task.log_lines.all()] == ["half of it is done"]
    assert task.progress_value == {"done": 1, "total": 2}


def test_a_task_may_snooze_and_end_in_its_next_turn() -> None:
    turns: list[int] = []

    @handler("work.twice", max_attempts=1)
    def twice(task: Task) -> str:
        turns.append(task.attempts)
        if len(turns) < 3:
            raise Snooze(0)
        return "done"

    (task,) = run_tasks_of("work.twice")
    assert (task.state, task.result, task.attempts) == (State.COMPLETED, "done", 1)
    assert turns == [1, 1, 1]


def run_tasks_of(name: str) -> list[Task]:
    enqueue(name)
    return run_tasks()


@pytest.mark.parametrize("after", [timedelta(minutes=1), 60, 60.0])
def test_the_time_is_seconds_or_a_timedelta(after: Any) -> None:
    assert Snooze(after).after == 60


@pytest.mark.parametrize("after", [-1, float("nan"), timedelta(seconds=-1)])
def test_a_time_that_is_none_is_refused(after: Any) -> None:
    with pytest.raises(ValueError, match="Snooze"):
        Snooze(after)


def own_task() -> Task:
    return enqueue("aftersave.bulk", {"bulk": 0})


def test_every_worker_serves_the_queue_of_aftersaves_own_tasks() -> None:
    lanes = Lanes(["crm"])
    lanes.add([OWN, "email", "crm"])
    assert [lanes.next(), lanes.next(), lanes.next()] == [OWN, "crm", OWN]


def test_nobody_can_pause_the_queue_of_aftersaves_own_tasks() -> None:
    task = own_task()
    assert task.queue == OWN
    Queue.objects.create(name=OWN, paused_at=task.created_at)
    assert due_queues("default") == [OWN]
    assert look("default", ME).due_queues == [OWN]
    assert [found.pk for found in claim("default", OWN, 5, ME)] == [task.pk]


def test_hosts_cannot_take_names_or_the_queue_of_aftersave() -> None:
    with pytest.raises(InvalidHandler, match="reserved"):
        handler("aftersave.mine")(lambda task: None)
    with pytest.raises(InvalidHandler, match="own tasks"):
        handler("work.mine", queue=OWN)
    with pytest.raises(InvalidTask, match="own tasks"):
        enqueue("work.noop", queue=OWN)


def test_every_process_has_the_handlers_of_aftersave() -> None:
    known = registry.get("aftersave.bulk")
    assert known is not None
    assert (known.queue, known.is_async) == (OWN, False)


def test_aftersaves_own_handler_does_not_narrow_the_claims_of_a_host_of_coroutines() -> None:
    own = registry.get("aftersave.bulk")
    assert own is not None
    forget_all_handlers()
    registry.add(own)

    @handler("work.wait")
    async def wait(task: Task) -> None:
        return None

    hands = Hands(flusher(), Clock(), threads=2, coroutines=50)
    assert hands.appetite() == (50, None)
    only_coroutines = Hands(flusher(), Clock(), threads=0, coroutines=50)
    assert only_coroutines.appetite() == (50, ["aftersave.bulk", "work.wait"])


def test_a_snoozing_task_holds_no_slot() -> None:
    entered = threading.Event()

    @handler("work.sleepy")
    def sleepy(task: Task) -> None:
        entered.set()
        raise Snooze(3600)

    enqueue("work.sleepy")
    made = flusher()
    hands = Hands(made, Clock(), threads=1, coroutines=0)
    hands.give_out(claim("default", "default", 1, ME))
    assert entered.wait(10)
    deadline = time.monotonic() + 10
    while hands.busy and time.monotonic() < deadline:
        hands.collect()
    made.flush(ME)
    assert hands.appetite() is not None
    assert Task.objects.get().state == State.SCHEDULED
