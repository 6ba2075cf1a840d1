"""The statements by which a worker writes what came of attempts, each fenced by the lease."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import F

from tasks import bell
from tasks.models import Failure, LogLine, State, Task
from workers.attempt import Attempt, GivenBack, Later

#: A line that was logged, or without one the attempt's progress.
Said = tuple[Attempt, LogLine | None]

#: What a task looks like that goes back to the front of its queue.
RETURNED: dict[str, Any] = {
    "state": State.SCHEDULED,
    "due": True,
    "worker_id": None,
    "started_at": None,
}


def write_said(using: str, worker_id: int, said: Sequence[Said]) -> list[Said]:
    """Write lines and progress of tasks still held; returns what others have locked."""
    attempts = {attempt.task.pk: attempt for attempt, _ in said}
    rows = Task.objects.using(using).filter(pk__in=list(attempts), worker_id=worker_id)
    with transaction.atomic(using=using):
        # Whatever their state: an atomic handler has ended its task before its lines come here.
        locked = dict(rows.locked(skip=True).values_list("pk", "lease"))
        ours = [entry for entry in said if locked.get(entry[0].task.pk) == entry[0].task.lease]
        lines = [line for _, line in ours if line is not None]
        LogLine.objects.using(using).bulk_create(lines, batch_size=1000)
        for attempt in {attempt for attempt, line in ours if line is None}:
            # First the flag: what is told from here on is said anew.
            attempt.has_said_progress = False
            one = Task.objects.using(using).filter(pk=attempt.task.pk)
            one.update(progress_value=attempt.told_progress)
    if len(ours) == len(said):
        return []
    held = dict(rows.values_list("pk", "lease"))
    return [
        entry
        for entry in said
        if entry[0].task.pk not in locked and held.get(entry[0].task.pk) == entry[0].task.lease
    ]


def held_rows(using: str, worker_id: int, leases: dict[int, int]) -> set[int]:
    """Lock the running tasks that ``worker_id`` holds under these leases, skipping locked ones."""
    rows = Task.objects.using(using).filter(
        pk__in=list(leases), state=State.RUNNING, worker_id=worker_id
    )
    found = rows.locked(skip=True).values_list("pk", "lease")
    return {pk for pk, lease in found if leases[pk] == lease}


def reschedule(using: str, worker_id: int, laters: Sequence[Later]) -> set[int]:
    """Schedule tasks again, keep the failures, refund what snoozes; returns the ids written."""
    with transaction.atomic(using=using):
        held = held_rows(using, worker_id, {later.task_id: later.lease for later in laters})
        mine = [later for later in laters if later.task_id in held]
        for later in mine:
            Task.objects.using(using).filter(pk=later.task_id).update(
                state=State.SCHEDULED,
                run_at=later.run_at,
                due=later.due,
                started_at=later.started_at,
                worker_id=None,
                attempts=F("attempts") if later.failure else F("attempts") - 1,
            )
        failures = [later.failure for later in mine if later.failure]
        Failure.objects.using(using).bulk_create(failures)
    return held


def give_back(using: str, worker_id: int, rows: Sequence[GivenBack]) -> set[int]:
    """Put tasks back where they stood, with the attempt refunded; returns the ids written."""
    with transaction.atomic(using=using):
        held = held_rows(using, worker_id, {row.task_id: row.lease for row in rows})
        Task.objects.using(using).filter(pk__in=held).update(**RETURNED, attempts=F("attempts") - 1)
        if held:
            bell.ring_after_commit(using, {row.queue for row in rows if row.task_id in held})
    return held


def return_unknown(using: str, worker_id: int, known: Sequence[int]) -> None:
    """Give back what ``worker_id`` has but for ``known``: claimed in a statement whose answer was
    lost."""
    ours = Task.objects.using(using).running().filter(worker_id=worker_id)
    unknown = list(ours.exclude(pk__in=known).values_list("pk", flat=True))
    if unknown:
        with transaction.atomic(using=using):
            ids = list(ours.filter(pk__in=unknown).locked(skip=True).values_list("pk", flat=True))
            ours.filter(pk__in=ids).update(**RETURNED, attempts=F("attempts") - 1)


def mark_started(using: str, worker_id: int, attempt: Attempt) -> bool:
    """Write that the last allowed attempt enters its handler; False when the lease is lost."""
    task = attempt.task
    rows = Task.objects.using(using).filter(
        pk=task.pk, lease=task.lease, worker_id=worker_id, state=State.RUNNING
    )
    return rows.update(started_at=attempt.clock.now()) == 1


def tell_starts(using: str, worker_id: int, attempts: Sequence[Attempt]) -> None:
    """Write since when handlers run that are not over at once: pages say for how long."""
    with transaction.atomic(using=using):
        held = held_rows(using, worker_id, {one.task.pk: one.task.lease for one in attempts})
        for attempt in attempts:
            if attempt.task.pk in held:
                row = Task.objects.using(using).filter(pk=attempt.task.pk)
                row.update(started_at=attempt.started_at)
    # Whose row is locked by somebody is tried again.
    for attempt in attempts:
        attempt.has_told_start = attempt.task.pk in held
