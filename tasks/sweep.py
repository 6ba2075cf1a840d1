"""The handler of bulk actions: it goes through what matches from the newest down, chunk by chunk.

Each chunk is one transaction with its progress, so a worker may be killed at any moment: who goes
on begins where the last committed chunk ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks import bulk as bulks
from tasks import page_bell
from tasks.actions import many
from tasks.bulk_viewer import Stopped, stopping, viewer_of
from tasks.conf import aftersave_settings
from tasks.exceptions import LeaseLost
from tasks.handlers import Snooze, handler
from tasks.locks import StillLocked, brief_transaction
from tasks.models import FINAL, BulkAction, Failure, State, Task, TaskEvent
from tasks.models.clock import DatabaseNow
from tasks.names import OWN

if TYPE_CHECKING:
    from tasks.dashboard.viewer import Viewer

CHUNK = 500
#: Seconds after which it lets others have the slot.
TURN = 5.0
#: A throttled one does what fits into so many seconds, then sleeps for as long.
STRIDE = 2.0
#: Seconds to look for the tasks of one chunk.
PATIENCE = 20.0
#: Whoever pauses or cancels it waits no longer than a chunk does for a task that is locked.
LOCK_WAIT = 1
LOCK_PAUSE = 0.5
#: How much the newest chunk counts in the rate.
_FRESH = 0.3


@dataclass
class Chunk:
    """What the next transaction does: the tasks to touch, and how far it gets then."""

    ids: list[int] = field(default_factory=list)
    cursor: int = 0
    looked_at: int = 0
    is_last: bool = False
    skipped: Counter[str] = field(default_factory=Counter)


class Over(Exception):
    """Nothing is left to do for this task: the bulk action ended, was paused, or has another."""


# Attempts are used up by killed workers and broken databases alone.
@handler(bulks.NAME, max_attempts=100, backoff=1.0, title=cast("str", _("Bulk action")))
def sweep(task: Task) -> dict[str, Any]:
    """Perform the bulk action of ``task``; snoozes between turns, and where it is throttled."""
    turn_ends = time.monotonic() + TURN
    try:
        while True:
            pause = _step(task, task.data["bulk"])
            if pause > 0 or time.monotonic() >= turn_ends:
                raise Snooze(pause)
    except Over:
        return {"bulk": task.data["bulk"]}


def _step(task: Task, bulk_id: int) -> float:
    """One chunk; returns how many seconds to wait before the next."""
    began = time.monotonic()
    using = task._state.db or "default"
    bulk = BulkAction.objects.using(using).filter(pk=bulk_id).first()
    if bulk is None or not _is_on(bulk, task):
        raise Over
    try:
        chunk = _look(bulk, viewer_of(bulk))
    except Stopped as stopped:
        _stop(using, bulk, task, stopped.why)
        raise Over from None
    try:
        with brief_transaction(using, seconds=LOCK_WAIT):
            now = bulks.lock(using, bulk_id)
            if now is None or not _is_on(now, task):
                raise Over
            _check_lease(task)
            if now.cursor != bulk.cursor:
                return 0.0
            done = _act(using, now, chunk)
            seconds = _pause(now, done, time.monotonic() - began)
            _save(using, now, chunk, done, time.monotonic() - began + seconds)
    except StillLocked:
        return LOCK_PAUSE
    task.progress(now.done + done, max(now.expected, now.done + done))
    if chunk.is_last:
        raise Over
    return seconds


def _is_on(bulk: BulkAction, task: Task) -> bool:
    return bulk.task_id == task.pk and not (bulk.finished_at or bulk.paused_at)


def _check_lease(task: Task) -> None:
    """Raise LeaseLost when another worker was given the task while this one was slow."""
    mine = Task.objects.using(task._state.db).filter(
        pk=task.pk, lease=task.lease, worker_id=task.worker_id, state=State.RUNNING
    )
    if not mine.exists():
        raise LeaseLost(task)


def _look(bulk: BulkAction, viewer: Viewer) -> Chunk:
    """The next tasks that match, without a lock: what they have become is seen when they are."""
    from tasks.dashboard.window import read

    with stopping(bulk, "query"):
        match = bulks.matches(viewer, bulk.action, bulk.query, now=bulk.created_at)
    if match.errors:
        raise Stopped("query")
    before = bulk.highest_id + 1 if bulk.cursor is None else bulk.cursor
    found = read(match, before=before, size=_size(bulk), seconds=PATIENCE)
    if found.older == before:
        raise TimeoutError(f"In {PATIENCE:g} s no task below {before} was found or ruled out.")
    tasks = _read(bulk, found.ids)
    chunk = Chunk(looked_at=len(tasks), cursor=found.older or 0, is_last=found.older is None)
    late = _changed_since(bulk, tasks)
    for task in tasks:
        if task.type == OWN:
            chunk.skipped["own"] += 1
        elif task.pk in late:
            chunk.skipped["changed"] += 1
        elif not viewer.may(bulk.action, task):
            chunk.skipped["forbidden"] += 1
        else:
            chunk.ids.append(task.pk)
    return chunk


def _read(bulk: BulkAction, ids: Sequence[int]) -> list[Task]:
    rows = Task.objects.using(bulk._state.db).filter(pk__in=ids).order_by("-pk")
    # A host that judges each task may look at anything of it, data apart.
    few = aftersave_settings.MAY is None
    return list(rows.only("type", "state", "finished_at") if few else rows.defer("data", "result"))


def _size(bulk: BulkAction) -> int:
    if bulk.per_second is None:
        return CHUNK
    return max(1, min(CHUNK, round(bulk.per_second * STRIDE)))


def _changed_since(bulk: BulkAction, tasks: Sequence[Task]) -> set[int]:
    """Tasks that match now but did not, or not as the same try, when it was pressed."""
    pressed = bulk.created_at
    late = {task.pk for task in tasks if task.finished_at and task.finished_at > pressed}
    live = [task.pk for task in tasks if task.state not in FINAL]
    # Also what is finished may have other data since.
    touched = [task.pk for task in tasks]
    for events, ids in ((Failure.objects, live), (TaskEvent.objects, touched)):
        since = events.using(bulk._state.db).filter(task__in=ids, at__gt=pressed)
        late |= set(since.values_list("task_id", flat=True))
    return late


def _act(using: str, bulk: BulkAction, chunk: Chunk) -> int:
    if not chunk.ids:
        return 0
    outcome = many(using, chunk.ids, bulk.action, by=bulk.who, reason=bulk.reason, bulk=bulk)
    chunk.skipped.update(outcome.skipped)
    return len(outcome.done)


def _pause(bulk: BulkAction, done: int, took: float) -> float:
    if not bulk.per_second:
        return 0.0
    return max(0.0, done / bulk.per_second - took)


def _save(using: str, bulk: BulkAction, chunk: Chunk, done: int, seconds: float) -> None:
    rate = done / max(seconds, 0.001)
    skipped = Counter(bulk.skipped) + chunk.skipped
    looked_at = bulk.looked_at + chunk.looked_at
    columns: dict[str, Any] = {}
    if chunk.is_last:
        columns["finished_at"] = DatabaseNow()
        if bulk.expected_is_exact and looked_at < bulk.expected:
            skipped["left"] = bulk.expected - looked_at
    BulkAction.objects.using(using).filter(pk=bulk.pk).update(
        cursor=chunk.cursor,
        looked_at=looked_at,
        done=bulk.done + done,
        skipped=dict(skipped),
        rate=rate if not bulk.rate else bulk.rate * (1 - _FRESH) + rate * _FRESH,
        progressed_at=timezone.now(),
        **columns,
    )
    page_bell.changed_after_commit(using, [OWN])


def _stop(using: str, bulk: BulkAction, task: Task, why: str) -> None:
    """End it before its time."""
    with transaction.atomic(using=using):
        now = bulks.lock(using, bulk.pk)
        if now is not None and _is_on(now, task):
            rows = BulkAction.objects.using(using).filter(pk=bulk.pk)
            rows.update(finished_at=DatabaseNow(), stopped_because=why)
            page_bell.changed_after_commit(using, [OWN])
