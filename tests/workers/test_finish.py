import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks import enqueue
from tasks.models import Failure, LogLine, State, Task
from tasks.settle import Ending
from tests.tasks.tools import threads
from tests.workers.tools import ME, OTHER, attempt, claimed, flusher, row_locked, worker
from workers.attempt import Attempt, GivenBack, Later, Written
from workers.finish import FLUSH_AT, FLUSH_DELAY, Flusher, mark_started

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
    return GivenBack(task_id=task.pk, lease=task.lease)


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
    assert not caplog.records


def test_a_task_that_is_gone_is_forgotten() -> None:
    tasks = claimed_tasks(3)
    Task.objects.filter(pk=tasks[1].pk).delete()
    assert len(flushed(*map(done, tasks))) == 0
    assert states() == ["completed", "completed"]


def test_a_refused_outcome_is_written_without_its_content_and_the_others_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = claimed_tasks(7)
    # What a handler returns is cleaned before; a database may be pickier than we know.
    poison = done(tasks[3], result='{"a": ')
    if connection.vendor != "postgresql":
        poison = done(tasks[3], State.FAILED, fingerprint="x" * 65, result="1")
    if connection.vendor == "sqlite":
        poison = done(tasks[3], State.COMPLETED, live_key_too="")if False else done(tasks[3])
    own = flushed(*[poison if t is tasks[3] else done(t, result='"ok"') for t in tasks])
    for _ in range(4):
        own.flush(ME)
    for task in tasks:
        task.refresh_from_db()
    assert [task.result for task in tasks if task is not tasks[3]] == ["ok"] * 6


def test_a_poisoned_failure_does_not_keep_others_from_being_written() -> None:
    tasks = claimed_tasks(5)
    outcomes = [later(task) for task in tasks]
    outcomes[2].failure.message = "\x00"
    own = flushed(*outcomes)
    own.flush(ME)
    assert len(own) == 0
    assert states() == ["scheduled"] * 5
    assert Failure.objects.count() == 5


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
        own.flush(ME)
        assert len(own) == 3
    own.flush(ME)
    assert len(own) == 0
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
        own.push(GivenBack(task_id=number, lease=1))
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


def talking(task: Task, own: Flusher) -> Attempt:
    return attempt(task, say=own.say)


def test_lines_and_progress_are_written_while_the_task_runs() -> None:
    own = flusher()
    (task,) = claimed_tasks(1)
    made = talking(task, own)
    made.log("one", logging.INFO)
    made.progress(1, 3)
    made.log("two", logging.WARNING)
    made.progress(2, 3)
    assert own.due_at() is not None
    own.flush(ME)
    task.refresh_from_db()
    assert task.progress_value == {"done": 2, "total": 3}
    assert [(line.text, line.level, line.attempt) for line in task.log_lines.all()] == [
        ("one", 20, 1),
        ("two", 30, 1),
    ]


def test_lines_of_an_atomic_handler_are_kept_though_it_ended_its_task() -> None:
    own = flusher()
    (task,) = claimed_tasks(1)
    talking(task, own).log("one", logging.INFO)
    flushed(done(task))
    own.flush(ME)
    assert LogLine.objects.get().text == "one"


def test_lines_of_a_lost_lease_are_not_kept() -> None:
    own = flusher()
    (task,) = claimed_tasks(1)
    made = talking(task, own)
    made.log("one", logging.INFO)
    made.progress(1, 2)
    Task.objects.update(lease=2)
    own.flush(ME)
    own.flush(ME)
    assert not LogLine.objects.exists()
    assert Task.objects.get().progress_value is None


def test_a_line_that_is_refused_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    own = flusher()
    tasks = claimed_tasks(5)
    for task in tasks:
        talking(task, own).log("one", logging.INFO)
    own._lines[2][1].level = 10**30 if connection.vendor == "sqlite" else 10**6  # type: ignore[union-attr]
    own.flush(ME)
    assert LogLine.objects.count() == 4
    assert f"progress of task {tasks[2].pk}" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_lines_of_a_locked_row_wait_for_it() -> None:
    own = flusher()
    tasks = claimed_tasks(2)
    for task in tasks:
        talking(task, own).log("one", logging.INFO)
    if connection.features.has_select_for_update_skip_locked:
        with row_locked(tasks[0]):
            own.flush(ME)
            assert LogLine.objects.get().task_id == tasks[1].pk
            assert own.due_at() is not None
    own.flush(ME)
    assert LogLine.objects.count() == 2


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
