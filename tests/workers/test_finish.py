from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from tasks import enqueue
from tasks.models import Failure, State, Task
from tasks.settle import Ending
from tests.tasks.tools import threads
from tests.workers.tools import ME, OTHER, attempt, claimed, flusher, row_locked, worker
from workers.attempt import GivenBack, Later, Written
from workers.finish import FLUSH_AT, FLUSH_DELAY, Flusher
from workers.outcomes import mark_started

pytestmark = pytest.mark.django_db


def done(task: Task, state: str = State.COMPLETED, **more: Any) -> Ending:
    known = {"lease": task.lease, "has_dependents": task.has_dependents}
    return Ending(task_id=task.pk, state=state, **{**known, **more})


def later(task: Task, *, seconds: float = 60, message: str = "no luck") -> Later:
    failure = Failure(task_id=task.pk, attempt=task.attempts, exception="E", message=message)
    return Later(
        task_id=task.pk,
        lease=task.lease,
        run_at=timezone.now() + timedelta(seconds=seconds),
        failure=failure,
        started_at=timezone.now(),
    )


def given_back(task: Task) -> GivenBack:
    return GivenBack(task_id=task.pk, lease=task.lease, queue=task.queue)


def claimed_tasks(count: int) -> list[Task]:
    return [claimed(enqueue("work.noop")) for _ in range(count)]


def flushed(*outcomes: Any, by: int = ME) -> Flusher:
    own = flusher()
    for outcome in outcomes:
        own.push(outcome)
    own.flush(by)
    return own


def states() -> list[str]:
    return list(Task.objects.order_by("pk").values_list("state", flat=True))


def test_all_kinds_of_outcomes_are_written_in_one_flush() -> None:
    one, two, three, four = claimed_tasks(4)
    own = flushed(done(one, result='{"a":1}'), later(two), given_back(three))
    assert len(own) == 0
    assert own.due_at() is None
    assert states() == ["completed", "scheduled", "scheduled", "running"]
    for task in (one, two, three):
        task.refresh_from_db()
    assert (one.result, one.finished_at is not None) == ({"a": 1}, True)
    assert (two.due, two.attempts, two.worker_id, two.lease) == (False, 1, None, 1)
    assert two.failures.get().message == "no luck"
    assert (three.due, three.attempts, three.worker_id, three.started_at) == (True, 0, None, None)
    assert four.pk


@pytest.mark.parametrize("column", [{"lease": 2}, {"worker_id": OTHER}])
def test_who_lost_the_lease_changes_nothing_and_says_so(
    column: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    tasks = claimed_tasks(3)
    Task.objects.update(**column)
    before = list(Task.objects.order_by("pk").values())
    own = flushed(done(tasks[0]), later(tasks[1]), given_back(tasks[2]))
    assert len(own) == 0
    assert list(Task.objects.order_by("pk").values()) == before
    assert not Failure.objects.exists()
    assert caplog.text.count("was given to another worker") == 3


def test_an_atomic_handler_that_lost_its_lease_says_so(caplog: pytest.LogCaptureFixture) -> None:
    (task,) = claimed_tasks(1)
    assert len(flushed(Written(task_id=task.pk, lease=1, lost=True))) == 0
    assert f"Task {task.pk} was given to another worker" in caplog.text


def test_an_outcome_written_already_is_not_written_again(caplog: pytest.LogCaptureFixture) -> None:
    (task,) = claimed_tasks(1)
    flushed(done(task, result="1"))
    flushed(done(task, State.FAILED, reason="late"))
    task.refresh_from_db()
    assert (task.state, task.result, task.reason) == (State.COMPLETED, 1, "")
    assert not [record for record in caplog.records if record.name == "workers"]


def test_a_task_that_is_gone_is_forgotten() -> None:
    tasks = claimed_tasks(3)
    Task.objects.filter(pk=tasks[1].pk).delete()
    assert len(flushed(*map(done, tasks))) == 0
    assert states() == ["completed", "completed"]


@pytest.mark.django_db(transaction=True)
def test_a_refused_outcome_is_written_without_its_content_and_the_others_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = claimed_tasks(14)
    outcomes = [*map(done, tasks[:7]), *map(later, tasks[7:])]
    # What handlers say is cleaned before, but a database may be pickier than we know.
    refused = Failure(attempt=1, task_id=tasks[3].pk, exception="E", message="m\0")
    refused.traceback = None  # type: ignore[assignment]
    outcomes[3] = done(tasks[3], State.FAILED, result='"cut"', failure=refused)
    outcomes[9].failure.traceback = None  # type: ignore[union-attr]
    own = flushed(*outcomes)
    assert own.pending() == [tasks[3].pk, tasks[9].pk]
    assert states().count("running") == 2
    own.flush(ME, everything=True)
    assert len(own) == 0
    assert states() == ["completed"] * 3 + ["failed"] + ["completed"] * 3 + ["scheduled"] * 7
    assert Failure.objects.count() == 8
    assert Failure.objects.get(task=tasks[3]).traceback == ""
    assert f"refused what task {tasks[3].pk} wants to keep" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_database_that_refuses_for_a_moment_gets_the_whole_outcome_later() -> None:
    tasks = claimed_tasks(3)
    own = flusher()
    for task in tasks:
        own.push(done(task, result='"whole"'))

    def busy(execute: Any, sql: str, *more: Any) -> Any:
        if "UPDATE" in sql:
            raise OperationalError("disk full")
        return execute(sql, *more)

    for _ in range(5):
        with connection.execute_wrapper(busy), pytest.raises(OperationalError):
            own.flush(ME)
        assert len(own) == 3
        assert own.due_at() is not None, "what is not written is not forgotten"
    own.flush(ME)
    assert list(Task.objects.values_list("result", flat=True)) == ["whole"] * 3


@pytest.mark.django_db(transaction=True)
def test_a_locked_row_does_not_hold_up_the_others_and_is_written_when_it_is_free() -> None:
    tasks = claimed_tasks(9)
    own = flusher()
    for task in tasks[:5]:
        own.push(done(task))
    for task in tasks[5:8]:
        own.push(later(task))
    own.push(given_back(tasks[8]))
    if not connection.features.has_select_for_update_skip_locked:
        own.flush(ME)
        assert "running" not in states()
        return
    with row_locked(tasks[2]), row_locked(tasks[6]), row_locked(tasks[8]):
        own.flush(ME)
        assert own.pending() == [tasks[2].pk, tasks[6].pk, tasks[8].pk]
        assert states().count("running") == 3
        assert own.due_at() is not None
        own.flush(ME, everything=True)
        assert len(own) == 3
    own.flush(ME, everything=True)
    assert len(own) == 0
    assert own.due_at() is None
    assert "running" not in states()
    assert Task.objects.get(pk=tasks[8].pk).attempts == 0


def test_dependents_that_came_after_the_claim_are_released_at_the_next_flush() -> None:
    (first,) = claimed_tasks(1)
    second = enqueue("work.noop", after=[first])
    own = flushed(done(first))
    own.flush(ME)
    assert len(own) == 0
    second.refresh_from_db()
    assert (second.state, second.due) == (State.SCHEDULED, True)


def test_an_outcome_waits_for_company_unless_it_is_urgent() -> None:
    own = flusher()
    tasks = claimed_tasks(2)
    assert own.due_at() is None
    own.push(done(tasks[0]))
    first = own.due_at()
    assert first is not None
    own.push(done(tasks[1]))
    assert own.due_at() == first
    assert FLUSH_DELAY <= 0.02
    own.push(done(tasks[0]), urgent=True)
    assert own.due_at() == 0.0


def test_a_full_batch_does_not_wait() -> None:
    own = flusher()
    for number in range(FLUSH_AT):
        own.push(GivenBack(task_id=number, lease=1, queue="default"))
    assert own.due_at() == 0.0


def test_what_cannot_be_written_while_the_database_is_away_is_not_forgotten() -> None:
    tasks = claimed_tasks(3)
    own = Flusher("nowhere", lambda: None)
    for task in tasks:
        own.push(done(task))
    with pytest.raises(Exception, match="nowhere"):
        own.flush(ME)
    assert own.pending() == [task.pk for task in tasks]
    assert own.due_at() is not None
    own.using = "default"
    own.flush(ME)
    assert states() == ["completed"] * 3


def test_forgetting_names_what_is_lost() -> None:
    tasks = claimed_tasks(2)
    own = flusher()
    for task in tasks:
        own.push(done(task))
    assert own.holds(tasks[0].pk)
    assert own.forget() == [task.pk for task in tasks]
    assert not own.holds(tasks[0].pk)
    assert own.due_at() is None


def test_the_start_of_a_last_attempt_is_written_only_under_its_lease() -> None:
    (task,) = claimed_tasks(1)
    made = attempt(task)
    assert mark_started("default", ME, made)
    task.refresh_from_db()
    assert task.started_at is not None
    assert not mark_started("default", OTHER, made)


@pytest.mark.django_db(transaction=True)
def test_outcomes_of_many_threads_are_all_written() -> None:
    worker()
    tasks = claimed_tasks(40)
    own = flusher()
    with threads(4) as start:
        futures = [start(lambda t=task: own.push(done(t))) for task in tasks]
        while not all(future.done() for future in futures):
            own.flush(ME)
    own.flush(ME)
    assert set(states()) == {"completed"}
