"""The row: what it answers, and what the database does not let it become."""

import logging
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from tasks import build, enqueue, handler
from tasks.actions import many
from tasks.dashboard.live.render import database_time
from tasks.models import FINAL, LIVE, Queue, State, Task, TaskEvent
from tasks.queues import pause
from tests.tasks.tools import finish, start

pytestmark = pytest.mark.django_db

NOW = timezone.now()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("(known_state|due_is_scheduled)", {"state": "lost"}),
        ("finished_iff_final", {"state": "completed", "due": False}),
        ("finished_iff_final", {"finished_at": NOW}),
        ("running_has_worker", {"state": "running", "due": False}),
        ("due_is_scheduled", {"state": "waiting"}),
        ("live_key_only_live", {"state": "failed", "due": False, "finished_at": NOW}),
        ("record_whole", {"object_id": "5"}),
    ],
)
def test_the_database_refuses_a_row_that_contradicts_itself(
    name: str, change: dict[str, Any]
) -> None:
    task = enqueue("math.add", unique_key="5")
    with pytest.raises(IntegrityError, match=f"tasks_{name}"), transaction.atomic():
        Task.objects.filter(pk=task.pk).update(**change)


def test_the_states_are_final_or_live() -> None:
    assert set(FINAL) | set(LIVE) == set(State)
    assert set(FINAL).isdisjoint(LIVE)


def test_questions_about_state_are_verbs() -> None:
    due = enqueue("math.add", queue="a")
    later = enqueue("math.add", delay=60)
    retrying = enqueue("math.add", delay=60)
    Task.objects.filter(pk=retrying.pk).update(attempts=1)
    waiting = enqueue("math.sum", after=[due])
    running = start(enqueue("math.add"))
    ended = {state: finish(enqueue("math.add"), state) for state in FINAL}
    answers = {
        "due": [due],
        "later": [later],
        "retrying": [retrying],
        "waiting": [waiting],
        "running": [running],
        **{str(state): [task] for state, task in ended.items()},
        "finished": list(ended.values()),
        "live": [due, later, retrying, waiting, running],
    }
    for question, tasks in answers.items():
        assert list(getattr(Task.objects, question)().order_by("id")) == tasks, question
        if len(tasks) == 1:
            assert Task.objects.get(pk=tasks[0].pk).shown_state == question
    assert list(Task.objects.in_queues(["a", "b"])) == [due]
    assert list(Task.objects.named("math.sum")) == [waiting]


def test_a_task_has_its_handlers_title_or_its_name() -> None:
    task = build("math.add")
    assert (task.title, task.handler) == ("math.add", None)
    handler("math.add", title="Add them")(lambda task: None)
    assert task.title == "Add them"
    assert str(enqueue("math.add")).startswith("math.add #")


def test_a_line_logged_outside_a_worker_is_kept_and_cleaned(settings: Any) -> None:
    settings.AFTERSAVE = {"LOG_LINE_LIMIT": 20}
    task = enqueue("math.add")
    task.log("a\x00b")
    task.log("x" * 100, level=logging.ERROR)
    first, second = task.log_lines.all()
    assert (first.text, first.level, first.attempt) == ("a\ufffdb", logging.INFO, 0)
    assert second.text.endswith("…")
    assert len(second.text.encode()) <= 20


def test_a_cancelled_task_says_so_outside_a_worker() -> None:
    task = enqueue("math.add")
    assert task.cancelled is False
    task.cancel()
    assert task.cancelled is True


def test_the_databases_clock_agrees_with_ours() -> None:
    """Times are stored in UTC, whatever zone the server or its session is in."""
    task = finish(enqueue("math.add"))
    assert task.finished_at is not None
    assert abs(task.finished_at - timezone.now()) < timedelta(seconds=30)
    task.retry()
    assert abs(task.run_at - timezone.now()) < timedelta(seconds=30)


def test_the_databases_clock_agrees_with_ours_where_times_have_no_zone(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Kolkata"
    settings.USE_TZ = False
    task = finish(enqueue("math.add"))
    assert task.finished_at is not None
    assert abs(task.finished_at - timezone.now()) < timedelta(seconds=30)
    task.retry()
    assert abs(task.events.get().at - timezone.now()) < timedelta(seconds=30)
    said = datetime.fromisoformat(database_time())
    assert abs(said - datetime.now(UTC)) < timedelta(seconds=30)


def test_a_host_whose_clock_is_wrong_tells_the_databases_time_of_what_staff_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the story of a task, on which several hosts write, would be out of order."""
    tasks = [finish(enqueue("math.add")) for _ in range(2)]
    right = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: right() - timedelta(hours=1))
    tasks[0].retry()
    many("default", [task.pk for task in tasks], "cancel", by="ann", reason="Not now.")
    pause("default", "crm", by="ann", reason="It is down.")
    moments = list(TaskEvent.objects.values_list("at", flat=True))
    assert len(moments) == 3
    for moment in [*moments, Queue.objects.get(name="crm").paused_at]:
        assert abs(moment - right()) < timedelta(seconds=30)


def test_no_migration_is_missing(settings: Any) -> None:
    settings.DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
    call_command("makemigrations", "tasks", check=True, dry_run=True, stdout=StringIO())
