"""Writing built tasks: unique keys, prerequisites, one bulk INSERT, the ring."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from tasks import bell, page_bell, search_keys
from tasks.exceptions import InvalidTask
from tasks.models import Prerequisite, State, Task

CHUNK = 2000
#: About the most data in one INSERT; MariaDB's default packet is 16 MiB.
STATEMENT_BYTES = 8 * 1024 * 1024
SOON = timedelta(seconds=2)
_TRIES_FOR_A_UNIQUE_KEY = 5


def insert(using: str, tasks: Sequence[Task]) -> dict[int, Task]:
    """Write ``tasks`` (prerequisites first) on ``using`` inside the caller's transaction.

    Returns the tasks that hold a wanted unique key already, by ``id()`` of those not written.
    """
    if not any(task.live_key for task in tasks):
        return _insert(using, tasks, {})
    for attempt in range(_TRIES_FOR_A_UNIQUE_KEY):
        try:
            with transaction.atomic(using=using):
                return _insert(using, tasks, _holders(using, tasks, current=attempt > 0))
        except IntegrityError:
            # Somebody committed the same key between our look and our INSERT: look again.
            if attempt == _TRIES_FOR_A_UNIQUE_KEY - 1:
                raise
            for task in tasks:
                task.pk = None
    raise AssertionError("unreachable")


def _holders(using: str, tasks: Sequence[Task], *, current: bool) -> dict[int, Task]:
    """Which task already has the unique key of each; the first of this batch counts as well."""
    keys = [task.live_key for task in tasks if task.live_key]
    rows = Task.objects.using(using).filter(live_key__in=keys)
    first = {task.live_key: task for task in (rows.locked() if current else rows)}
    holders: dict[int, Task] = {}
    for task in tasks:
        if task.live_key and first.setdefault(task.live_key, task) is not task:
            holders[id(task)] = first[task.live_key]
    return holders


def _insert(using: str, tasks: Sequence[Task], holders: dict[int, Task]) -> dict[int, Task]:
    new = [task for task in tasks if id(task) not in holders]
    after = {id(t): [holders.get(id(p), p) for p in t._after] for t in new if t._after}
    states = _lock_prerequisites(using, after.values())
    for task in new:
        _settle_beginning(task, after.get(id(task), ()), states)
    for prerequisites in after.values():
        for prerequisite in prerequisites:
            prerequisite.has_dependents = True
    _write(using, new)
    links = [
        Prerequisite(task=task, prerequisite=prerequisite)
        for task in new
        for prerequisite in {p.pk: p for p in after.get(id(task), ())}.values()
    ]
    if links:
        Prerequisite.objects.using(using).bulk_create(links, batch_size=CHUNK)
    search_keys.write(using, new)
    _ring(using, new)
    page_bell.changed_after_commit(using, [task.queue for task in new])
    return holders


def _lock_prerequisites(using: str, wanted: Iterable[Sequence[Task]]) -> dict[int, str]:
    """States of the saved prerequisites, which cannot end before this transaction does."""
    ids = {p.pk for prerequisites in wanted for p in prerequisites if p.pk}
    if not ids:
        return {}
    rows = Task.objects.using(using).filter(pk__in=ids)
    states: dict[int, str] = dict(rows.locked().values_list("pk", "state"))
    missing = ids - set(states)
    if missing:
        raise InvalidTask(f"Prerequisites {sorted(missing)} do not exist (any more).")
    rows.filter(has_dependents=False).update(has_dependents=True)
    return states


def _settle_beginning(task: Task, prerequisites: Sequence[Task], states: dict[int, str]) -> None:
    """Decide the state a task starts in from those of its prerequisites."""
    # Anew at every try for a unique key: meanwhile a prerequisite may have ended.
    task.state, task.due = State.SCHEDULED, task.run_at <= task.created_at
    task.finished_at, task.reason = None, ""
    task.live_key = task.context.get("unique_key")
    for prerequisite in prerequisites:
        state = states.get(prerequisite.pk, prerequisite.state)
        if state == State.CANCELLED:
            task.state, task.due, task.live_key = State.CANCELLED, False, None
            task.finished_at = timezone.now()
            task.reason = f"prerequisite {prerequisite.name} was cancelled"
            return
        if state != State.COMPLETED:
            task.state, task.due = State.WAITING, False


def _write(using: str, tasks: Sequence[Task]) -> None:
    manager = Task.objects.using(using)
    if connections[using].features.can_return_rows_from_bulk_insert:
        largest = max((len(str(task.data)) for task in tasks), default=0)
        manager.bulk_create(tasks, batch_size=min(CHUNK, max(1, STATEMENT_BYTES // (largest + 1))))
    else:
        for task in tasks:
            task.save(using=using, force_insert=True)


def _ring(using: str, tasks: Sequence[Task]) -> None:
    queues = {task.queue for task in tasks if task.due}
    soon = timezone.now() + SOON
    later = (task for task in tasks if task.state == State.SCHEDULED and not task.due)
    if queues or any(task.run_at < soon for task in later):
        bell.ring_after_commit(using, queues)
