from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tasks import enqueue
from tasks.models import FINAL, Failure, LogLine, State, Task, Worker
from tests.workers.tools import worker
from workers import prune as pruning
from workers.prune import prune_chunk

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def finished(state: str, *, days: float, **options: Any) -> Task:
    task = enqueue("work.noop", **options)
    ago = NOW - timedelta(days=days)
    Task.objects.filter(pk=task.pk).update(
        state=state, due=False, finished_at=ago if state in FINAL else None, created_at=ago
    )
    task.refresh_from_db()
    return task


def prune() -> int:
    """As a worker does it, a chunk a turn until it is through."""
    deleted, after = prune_chunk("default", 0, NOW)
    while after:
        gone, after = prune_chunk("default", after, NOW)
        deleted += gone
    return deleted


def left() -> set[int]:
    return set(Task.objects.values_list("pk", flat=True))


def test_completed_and_cancelled_go_after_two_weeks_and_failed_stay() -> None:
    keep = {
        finished(State.COMPLETED, days=13).pk,
        finished(State.CANCELLED, days=13).pk,
        finished(State.FAILED, days=400).pk,
        enqueue("work.noop").pk,
    }
    finished(State.COMPLETED, days=15)
    finished(State.CANCELLED, days=15)
    assert prune() == 2
    assert left() == keep
    assert prune() == 0


def test_the_settings_decide(settings: Any) -> None:
    settings.AFTERSAVE = {
        "KEEP_COMPLETED": None,
        "KEEP_CANCELLED": timedelta(days=1),
        "KEEP_FAILED": timedelta(days=1),
    }
    done = finished(State.COMPLETED, days=999)
    finished(State.CANCELLED, days=2)
    finished(State.FAILED, days=2)
    assert prune() == 2
    assert left() == {done.pk}


def test_nothing_goes_when_all_is_kept(settings: Any) -> None:
    settings.AFTERSAVE = {"KEEP_COMPLETED": None, "KEEP_CANCELLED": None}
    finished(State.COMPLETED, days=999)
    assert prune() == 0


def test_what_belongs_to_a_task_goes_with_it() -> None:
    task = finished(State.COMPLETED, days=15)
    Failure.objects.create(task=task, attempt=1, exception="E")
    LogLine.objects.create(task=task, attempt=1, at=NOW, level=20, text="one")
    task.events.create(who="ann", action="retry")
    prune()
    assert not Failure.objects.exists()
    assert not LogLine.objects.exists()


def test_a_completed_prerequisite_goes_though_its_dependent_waits_for_others() -> None:
    done = finished(State.COMPLETED, days=15)
    open_one = enqueue("work.noop")
    both = enqueue("work.noop", after=[done, open_one])
    assert prune() == 1
    both.refresh_from_db()
    assert both.state == State.WAITING
    assert both.prerequisites.get().prerequisite_id == open_one.pk


def test_a_failed_task_stays_while_others_wait_for_it(settings: Any) -> None:
    settings.AFTERSAVE = {"KEEP_FAILED": timedelta(days=1)}
    failed = finished(State.FAILED, days=2)
    waiting = enqueue("work.noop", after=[failed])
    assert prune() == 0
    waiting.cancel()
    assert prune() == 1
    assert left() == {waiting.pk}


def test_it_goes_on_chunk_by_chunk_past_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "CHUNK", 3)
    for number in range(20):
        finished(State.COMPLETED if number % 2 else State.FAILED, days=30)
    young = finished(State.COMPLETED, days=1)
    assert prune() == 10
    assert young.pk in left()
    assert len(left()) == 11


def test_old_workers_go_unless_they_live_or_hold_tasks() -> None:
    old = NOW - timedelta(days=2)
    worker(1)
    worker(2, stopped_at=old)
    worker(3, lost_at=old)
    worker(4, stopped_at=NOW)
    worker(5, lost_at=old)
    task = enqueue("work.noop")
    Task.objects.filter(pk=task.pk).update(state=State.RUNNING, due=False, worker_id=5)
    prune()
    assert set(Worker.objects.values_list("pk", flat=True)) == {1, 4, 5}
