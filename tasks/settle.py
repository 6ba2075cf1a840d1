"""The only door to a final state; what waited for a task is released in the same transaction.

Locks are taken in id order everywhere, and ids grow from prerequisite to dependent. Workers skip
what is locked and come back; staff and hosts wait for it. So nobody waits in a circle.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.db import connections, models, transaction
from django.db.models import Case, F, Value, When

from tasks import bell, page_bell, signals
from tasks.bookkeeping import note_failures
from tasks.models import Failure, Prerequisite, State, Task
from tasks.models.clock import DatabaseNow
from tasks.models.records import record_key

#: Task.reason of tasks that were cancelled because what they belong to is gone.
RECORD_DELETED = "record deleted"


@dataclass(slots=True, kw_only=True)
class Ending:
    """How an attempt brought its task to a final state."""

    task_id: int
    lease: int
    state: str
    has_dependents: bool = False
    result: str | None = None  # JSON
    reason: str = ""
    fingerprint: str = ""
    started_at: datetime | None = None
    failure: Failure | None = None


def settle(using: str, worker_id: int, endings: Sequence[Ending]) -> set[int]:
    """Write the endings of tasks that ``worker_id`` still holds under the lease it claimed.

    Returns the ids written. The others are locked by somebody, have got dependents since they
    were claimed, or belong to another worker now: see ``workers.finish``.
    """
    written: set[int] = set()
    plain = [ending for ending in endings if not ending.has_dependents]
    if plain:
        written |= _settle_plain(using, worker_id, plain)
    if len(plain) < len(endings):
        linked = [ending for ending in endings if ending.has_dependents]
        written |= _settle_linked(using, worker_id, linked)
    return written


def settle_own(using: str, worker_id: int, ending: Ending) -> bool:
    """Write one ending inside the caller's transaction, waiting for locks; False if not held."""
    rows = _lock(using, {ending.task_id}, skip=False)
    if not _held(rows.get(ending.task_id), worker_id, ending.lease):
        return False
    _write_each(using, [ending])
    _release(using, {ending.task_id: ending.state}, wait=True)
    _note_failed(using, [ending])
    _announce(using, [(ending.task_id, ending.state)])
    return True


def settle_by_hand(using: str, ids: Collection[int], state: str, reason: str) -> None:
    """End tasks that no worker holds. The caller has locked them and checked their states."""
    Task.objects.using(using).filter(pk__in=ids).update(
        state=state, due=False, finished_at=DatabaseNow(), live_key=None, reason=reason
    )
    page_bell.changed_after_commit(using, [page_bell.ANY] * len(ids))
    _release(using, dict.fromkeys(ids, state), wait=True)
    _announce(using, [(task_id, state) for task_id in sorted(ids)])


def waiting_below(using: str, ids: Collection[int], state: str) -> set[int]:
    """The waiting tasks that ending these in ``state`` touches, as far as it is known now.

    Who locks them together with ``ids`` keeps to the order of ids.
    """
    return set().union(*_waiting_for(using, dict.fromkeys(ids, state)).values())


def cancel_tasks_of(
    record: models.Model,
    *,
    using: str,
    states: Collection[str] = (State.WAITING, State.SCHEDULED),
) -> None:
    """Cancel what a deleted record still had in ``states``, and what waits for it."""
    content_type, object_id = record_key(record, using)
    own = Task.objects.using(using).filter(content_type=content_type, object_id=object_id)
    with transaction.atomic(using=using):
        doomed = own.filter(state__in=states)
        ids = set(doomed.values_list("pk", flat=True))
        if ids:
            _lock(using, ids | waiting_below(using, ids, State.CANCELLED), skip=False)
            ids &= set(doomed.values_list("pk", flat=True))
            settle_by_hand(using, ids, State.CANCELLED, RECORD_DELETED)


_PLAIN_SQL = """
WITH ending AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%s::json) AS given(
        id bigint, lease bigint, state text, result text, reason text, fingerprint text,
        started double precision)
), held AS MATERIALIZED (
    SELECT task.id FROM tasks_task task JOIN ending USING (id)
    WHERE task.lease = ending.lease AND task.worker_id = %s AND task.state = 'running'
      AND NOT task.has_dependents
    ORDER BY task.id FOR NO KEY UPDATE OF task SKIP LOCKED
)
UPDATE tasks_task task
SET state = ending.state, result = ending.result::jsonb, reason = ending.reason,
    fingerprint = ending.fingerprint, started_at = to_timestamp(ending.started),
    finished_at = statement_timestamp(), live_key = NULL
FROM ending JOIN held USING (id) WHERE task.id = ending.id
RETURNING task.id
"""


def _settle_plain(using: str, worker_id: int, endings: Sequence[Ending]) -> set[int]:
    if connections[using].vendor != "postgresql":
        with transaction.atomic(using=using):
            rows = _lock(using, {ending.task_id for ending in endings}, skip=True)
            held = [
                ending
                for ending in endings
                if _held(row := rows.get(ending.task_id), worker_id, ending.lease)
                and not (row and row["has_dependents"])
            ]
            _write_each(using, held)
            _note_failed(using, held)
            _announce(using, [(ending.task_id, ending.state) for ending in held])
        return {ending.task_id for ending in held}
    failures = [ending.failure for ending in endings if ending.failure]
    if not failures:
        return _update_plain(using, worker_id, endings)
    with transaction.atomic(using=using):
        written = _update_plain(using, worker_id, endings)
        Failure.objects.using(using).bulk_create(
            [failure for failure in failures if failure.task_id in written]
        )
        _note_failed(using, [ending for ending in endings if ending.task_id in written])
    return written


def _update_plain(using: str, worker_id: int, endings: Sequence[Ending]) -> set[int]:
    # One document: psycopg would quote seven arrays element by element.
    document = [
        {
            "id": ending.task_id,
            "lease": ending.lease,
            "state": ending.state,
            "result": ending.result,
            "reason": ending.reason,
            "fingerprint": ending.fingerprint,
            "started": ending.started_at and ending.started_at.timestamp(),
        }
        for ending in endings
    ]
    with connections[using].cursor() as cursor:
        cursor.execute(_PLAIN_SQL, [json.dumps(document), worker_id])
        written = {row[0] for row in cursor.fetchall()}
    if signals.tasks_settled.has_listeners():
        _announce(using, [(e.task_id, e.state) for e in endings if e.task_id in written])
    return written


def _settle_linked(using: str, worker_id: int, endings: Sequence[Ending]) -> set[int]:
    """Locks tasks and what waits for them together, or leaves a task for the next time."""
    outcome = {ending.task_id: ending.state for ending in endings}
    with transaction.atomic(using=using):
        guessed = _waiting_for(using, outcome)
        rows = _lock(using, set(outcome).union(*guessed.values()), skip=True)
        # Only who has locked a task can add dependents to it: this look is final.
        final = _waiting_for(using, {key: outcome[key] for key in outcome if key in rows})
        held = [
            ending
            for ending in endings
            if _held(rows.get(ending.task_id), worker_id, ending.lease)
            and final[ending.task_id] <= rows.keys()
        ]
        _write_each(using, held)
        _release(using, {ending.task_id: ending.state for ending in held}, wait=False)
        _note_failed(using, held)
        _announce(using, [(ending.task_id, ending.state) for ending in held])
    return {ending.task_id for ending in held}


def _lock(using: str, ids: Collection[int], *, skip: bool) -> dict[int, dict[str, Any]]:
    rows = Task.objects.using(using).filter(pk__in=ids).locked(skip=skip)
    columns = ("id", "state", "lease", "worker_id", "has_dependents")
    return {row["id"]: row for row in rows.values(*columns)}


def _held(row: dict[str, Any] | None, worker_id: int, lease: int) -> bool:
    return row is not None and (row["state"], row["worker_id"], row["lease"]) == (
        State.RUNNING,
        worker_id,
        lease,
    )


def _write_each(using: str, endings: Sequence[Ending]) -> None:
    for ending in endings:
        Task.objects.using(using).filter(pk=ending.task_id).update(
            state=ending.state,
            result=None if ending.result is None else json.loads(ending.result),
            reason=ending.reason,
            fingerprint=ending.fingerprint,
            started_at=ending.started_at,
            finished_at=DatabaseNow(),
            live_key=None,
        )
    failures = [ending.failure for ending in endings if ending.failure]
    if failures:
        Failure.objects.using(using).bulk_create(failures)


def _note_failed(using: str, endings: Sequence[Ending]) -> None:
    failed = [ending.failure for ending in endings if ending.state == State.FAILED]
    note_failures(using, [failure for failure in failed if failure])


def _waiting_for(using: str, outcome: dict[int, str]) -> dict[int, set[int]]:
    """For each task the waiting ones its ending touches: dependents, of a cancelled one all below.

    Past a dependent that does not wait any more nothing is touched.
    """
    below = _children(using, outcome)
    for task_id, state in outcome.items():
        if state == State.CANCELLED:
            fresh = set(below[task_id])
            while fresh:
                deeper = _children(using, fresh)
                fresh = set().union(*deeper.values()) - below[task_id]
                below[task_id] |= fresh
    return below


def _children(using: str, ids: Iterable[int]) -> dict[int, set[int]]:
    children: dict[int, set[int]] = {task_id: set() for task_id in ids}
    links = Prerequisite.objects.using(using).filter(
        prerequisite_id__in=list(children), task__state=State.WAITING
    )
    for prerequisite_id, task_id in links.values_list("prerequisite_id", "task_id"):
        children[prerequisite_id].add(task_id)
    return children


def _release(using: str, outcome: dict[int, str], *, wait: bool) -> None:
    """Schedule or cancel what waited for the tasks just settled; ``wait`` locks it first."""
    touched = {k: v for k, v in outcome.items() if v != State.FAILED}
    below = _waiting_for(using, touched) if touched else {}
    if wait:
        while True:
            wanted: set[int] = set().union(*below.values())
            _lock(using, wanted, skip=False)
            again = _waiting_for(using, touched) if touched else {}
            if again == below:
                break
            below = again
    done = set().union(*(below[k] for k, v in touched.items() if v == State.COMPLETED))
    withdrawn = set().union(*(below[k] for k, v in touched.items() if v == State.CANCELLED))
    if withdrawn:
        _cancel_waiting(using, withdrawn)
    if done:
        _schedule_ready(using, done)


def _cancel_waiting(using: str, ids: set[int]) -> None:
    waiting = Task.objects.using(using).filter(pk__in=ids, state=State.WAITING)
    waiting.update(
        state=State.CANCELLED,
        finished_at=DatabaseNow(),
        live_key=None,
        reason="a prerequisite was cancelled",
    )
    page_bell.changed_after_commit(using, [page_bell.ANY] * len(ids))
    _announce(using, [(task_id, State.CANCELLED) for task_id in sorted(ids)])


def _schedule_ready(using: str, ids: set[int]) -> None:
    links = Prerequisite.objects.using(using).filter(task_id__in=ids)
    # Who still waits beside a cancelled prerequisite was retried by somebody in spite of it.
    settled = (State.COMPLETED, State.CANCELLED)
    unfinished = links.exclude(prerequisite__state__in=settled)
    ready = ids - set(unfinished.values_list("task_id", flat=True))
    rows = Task.objects.using(using).filter(pk__in=ready, state=State.WAITING)
    queues = set(rows.values_list("queue", flat=True).distinct())
    # Its time was past, but nobody could have run it: from now on it can be late.
    rows.update(
        state=State.SCHEDULED,
        due=Case(When(run_at__lte=DatabaseNow(), then=Value(True)), default=Value(False)),
        run_at=Case(When(run_at__lte=DatabaseNow(), then=DatabaseNow()), default=F("run_at")),
    )
    if queues:
        bell.ring_after_commit(using, queues)
        page_bell.changed_after_commit(using, queues)


def _announce(using: str, settled: list[tuple[int, str]]) -> None:
    if settled and signals.tasks_settled.has_listeners():
        send = partial(signals.tasks_settled.send_robust, None, using=using, settled=settled)
        transaction.on_commit(send, using=using, robust=True)
