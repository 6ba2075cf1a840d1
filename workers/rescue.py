"""Dead workers' tasks go back to the front; tasks whose time has come become due."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Sequence
from functools import partial

from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from tasks import bell, page_bell, signals
from tasks.bookkeeping import note_failures
from tasks.models import Failure, LogLine, State, Task, Worker
from tasks.models.clock import DatabaseNow
from tasks.settle import settle_by_hand
from tasks.summing import count_lost
from workers import log
from workers.look import Seen
from workers.outcomes import RETURNED

WORKER_LOST = "worker lost"
LOST_EXCEPTION = "workers.WorkerLost"
SECOND_LOOK = 0.5
PROMOTE_AT_ONCE = 1000


class Suspicion:
    """Two looks half a second apart before a free lock counts as a death."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._blind_until = 0.0

    def be_blind(self, seconds: float) -> None:
        """Judge nobody for a while: we lost our own connection, so others may have, too."""
        self._blind_until = time.monotonic() + seconds
        self._since.clear()

    def dead(self, seen: Seen) -> list[int]:
        """Workers to declare dead after this look."""
        now = time.monotonic()
        if now < self._blind_until:
            return []
        self._since = {worker: self._since.get(worker, now) for worker in seen.unlocked}
        twice = [w for w, since in self._since.items() if now - since >= SECOND_LOOK]
        return sorted({*twice, *seen.silent})

    @property
    def pending(self) -> bool:
        """Whether somebody awaits the second look."""
        return bool(self._since)


def declare_dead(using: str, workers: Collection[int]) -> list[int]:
    """Mark living ``workers`` as lost and take their tasks from them; returns who was."""
    lost = []
    for worker_id in workers:
        living = Worker.objects.using(using).alive().filter(pk=worker_id)
        if living.update(lost_at=DatabaseNow()) == 1:
            lost.append(worker_id)
            page_bell.changed(using, {page_bell.ANY: 1})
    release_orphans(using)
    return lost


def release_orphans(using: str) -> int:
    """Take running tasks from workers that are not alive; returns how many.

    Rows locked by somebody stay for the next look.
    """
    living = Worker.objects.using(using).alive().filter(pk=OuterRef("worker_id"))
    orphans = Task.objects.using(using).running().filter(~Exists(living))
    # Looked for without an order: with one, a planner may walk the whole primary key.
    found = list(orphans.values_list("pk", flat=True))
    if not found:
        return 0
    with transaction.atomic(using=using):
        rows = orphans.filter(pk__in=found).locked(skip=True)
        tasks = list(rows.defer("data", "result", "context"))
        fatal = [t for t in tasks if t.attempts >= t.max_attempts and t.started_at]
        spared = [t for t in tasks if t.attempts >= t.max_attempts and not t.started_at]
        counted = [t for t in tasks if t.attempts < t.max_attempts]
        _fail(using, fatal)
        _return(using, spared, refund=True)
        _return(using, counted, refund=False)
        _tell(using, counted)
        count_lost(using, failed=fatal, retried=counted)
        if spared or counted:
            bell.ring_after_commit(using, {task.queue for task in (*spared, *counted)})
        page_bell.changed_after_commit(using, [task.queue for task in tasks])
        _announce(using, tasks)
    return len(tasks)


def _fail(using: str, tasks: Sequence[Task]) -> None:
    if not tasks:
        return
    failures = [
        Failure(
            task=task,
            attempt=task.attempts,
            worker_id=task.worker_id,
            started_at=task.started_at,
            at=timezone.now(),
            exception=LOST_EXCEPTION,
            message="The worker process ended while it ran this task.",
            fingerprint=_fingerprint(task),
        )
        for task in tasks
    ]
    Failure.objects.using(using).bulk_create(failures)
    for task in tasks:
        rows = Task.objects.using(using).filter(pk=task.pk)
        rows.update(fingerprint=_fingerprint(task))
    settle_by_hand(using, [task.pk for task in tasks], State.FAILED, WORKER_LOST)
    note_failures(using, failures)


def _fingerprint(task: Task) -> str:
    return hashlib.sha256(f"{task.name}\n{LOST_EXCEPTION}".encode()).hexdigest()[:32]


def _return(using: str, tasks: Sequence[Task], *, refund: bool) -> None:
    rows = Task.objects.using(using).filter(pk__in=[task.pk for task in tasks])
    if tasks:
        rows.update(**RETURNED, attempts=F("attempts") - 1 if refund else F("attempts"))


def _tell(using: str, tasks: Sequence[Task]) -> None:
    LogLine.objects.using(using).bulk_create(
        LogLine(
            task=task,
            attempt=task.attempts,
            at=timezone.now(),
            level=30,
            text=LogLine.WORKER_LOST,
        )
        for task in tasks
    )


def _announce(using: str, tasks: Sequence[Task]) -> None:
    for worker_id in {task.worker_id for task in tasks}:
        held = sum(task.worker_id == worker_id for task in tasks)
        log.worker_lost(worker_id or 0, held)
        send = partial(
            signals.worker_lost.send_robust, None, using=using, worker_id=worker_id, tasks=held
        )
        transaction.on_commit(send, using=using, robust=True)


def make_due(using: str) -> set[str]:
    """Mark up to 1,000 tasks whose time has come as due; returns their queues."""
    with transaction.atomic(using=using):
        later = Task.objects.using(using).filter(state=State.SCHEDULED, due=False)
        rows = later.filter(run_at__lte=DatabaseNow()).order_by("run_at")
        ids = list(rows.values_list("pk", flat=True)[:PROMOTE_AT_ONCE])
        locked = Task.objects.using(using).filter(pk__in=ids, state=State.SCHEDULED, due=False)
        found = dict(locked.locked(skip=True).values_list("pk", "queue"))
        Task.objects.using(using).filter(pk__in=found).update(due=True)
        queues = set(found.values())
        if queues:
            bell.ring_after_commit(using, queues)
            page_bell.changed_after_commit(using, found.values())
    return queues
