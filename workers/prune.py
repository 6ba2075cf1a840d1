"""Housekeeping: finished tasks are deleted by policy, in chunks, walking up the primary key."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from tasks.conf import aftersave_settings
from tasks.models import Prerequisite, State, Task, Worker

CHUNK = 200


def prune_chunk(using: str, after: int, now: datetime | None = None) -> tuple[int, int]:
    """Delete finished tasks past their time (see KEEP_COMPLETED and the like), oldest first, among
    the next ones with ids above ``after``; from 0 on all. At the end also old rows of workers.

    Returns how many went, and where to go on, 0 when it is through.
    """
    now = now or timezone.now()
    cutoffs = {state: now - keep for state, keep in _policies().items() if keep is not None}
    # Walking the primary key needs no index of its own; rows are about as old as their ids.
    rows = Task.objects.using(using).filter(pk__gt=after).order_by("pk")
    chunk = list(rows.values("pk", "state", "finished_at", "created_at")[:CHUNK] if cutoffs else ())
    deleted = _delete(using, [row["pk"] for row in chunk if _past(row, cutoffs)])
    if not chunk or chunk[-1]["created_at"] >= max(cutoffs.values()):
        _prune_workers(using, now)
        return deleted, 0
    return deleted, chunk[-1]["pk"]


def _policies() -> dict[str, timedelta | None]:
    return {
        State.COMPLETED: aftersave_settings.KEEP_COMPLETED,
        State.CANCELLED: aftersave_settings.KEEP_CANCELLED,
        State.FAILED: aftersave_settings.KEEP_FAILED,
    }


def _past(row: Mapping[str, Any], cutoffs: dict[str, datetime]) -> bool:
    cutoff = cutoffs.get(row["state"])
    return cutoff is not None and row["finished_at"] is not None and row["finished_at"] < cutoff


def _delete(using: str, ids: list[int]) -> int:
    if not ids:
        return 0
    with transaction.atomic(using=using):
        # Staff may have retried one since we looked.
        finished = Task.objects.using(using).filter(pk__in=ids).finished()
        # What waits for a failed one could never be released without it.
        needed = Prerequisite.objects.using(using).filter(
            prerequisite__in=ids, prerequisite__state=State.FAILED, task__state=State.WAITING
        )
        finished = finished.exclude(pk__in=list(needed.values_list("prerequisite_id", flat=True)))
        doomed = list(finished.locked(skip=True).values_list("pk", flat=True))
        # Only keys: else Django would load the rows, data and results, to delete them.
        Task.objects.using(using).filter(pk__in=doomed).only("pk").delete()
    return len(doomed)


def _prune_workers(using: str, now: datetime) -> None:
    keep = aftersave_settings.KEEP_WORKERS
    if keep is None:
        return
    held = Task.objects.using(using).running().values("worker_id")
    gone = Worker.objects.using(using).exclude(pk__in=held)
    gone.filter(stopped_at__lt=now - keep).delete()
    gone.filter(lost_at__lt=now - keep).delete()
