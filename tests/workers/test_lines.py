import logging
from typing import Any

import pytest
from django.db import connection
from django.db.utils import OperationalError
from django.utils import timezone

from tasks import enqueue
from tasks.models import LogLine, State, Task
from tasks.settle import Ending
from tests.workers.tools import ME, attempt, claimed, flusher, row_locked
from workers.attempt import Attempt
from workers.finish import Flusher

pytestmark = pytest.mark.django_db


def claimed_tasks(count: int) -> list[Task]:
    return [claimed(enqueue("work.noop")) for _ in range(count)]


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
    # As its own transaction has done.
    Task.objects.update(state=State.COMPLETED, finished_at=timezone.now())
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
    own._lines[2][1].attempt = None  # type: ignore[union-attr]
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
    own.flush(ME, everything=True)
    assert LogLine.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_an_outage_while_lines_are_written_forgets_neither_lines_nor_outcomes() -> None:
    own = flusher()
    (task,) = claimed_tasks(1)
    talking(task, own).log("one", logging.INFO)
    own.push(Ending(task_id=task.pk, lease=task.lease, state=State.COMPLETED))

    def away(execute: Any, sql: str, *more: Any) -> Any:
        raise OperationalError("server closed the connection unexpectedly")

    with connection.execute_wrapper(away), pytest.raises(OperationalError):
        own.flush(ME)
    assert own.due_at() is not None
    own.flush(ME)
    assert LogLine.objects.count() == 1
    task.refresh_from_db()
    assert task.state == State.COMPLETED
