"""How staff and host code move tasks from state to state: one or hundreds, locked, in few writes.

Locks are taken in id order, see ``tasks.settle``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import IntegrityError, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Case, F, Value, When
from django.db.models.sql.compiler import SQLCompiler

from tasks import bell, page_bell, signals
from tasks.exceptions import AftersaveError, TransitionRefused, UniqueKeyTaken
from tasks.models import FINAL, BulkAction, Incident, Prerequisite, State, Task, TaskEvent
from tasks.models.clock import DatabaseNow, database_now
from tasks.settle import settle_by_hand, waiting_below
from tasks.text import LONGEST_REASON, clean, one_line

_TRIES_FOR_A_UNIQUE_KEY = 5


@dataclass(frozen=True, kw_only=True)
class Deed:
    """Who does it and why: what every event of it says."""

    action: str
    who: str = ""
    reason: str = ""
    bulk: BulkAction | None = None
    incident: Incident | None = None


@dataclass(frozen=True, kw_only=True)
class Move:
    """A way from some states, by the words of ``Task.shown_state``, to others.

    ``write(using, rows, line)`` does it to locked rows that are in one of ``states``; ``line`` is
    what Task.reason shall say. ``ends`` is the final state it leads to, if it does.
    """

    wanted: str  # "retried"
    states: tuple[str, ...]
    write: Callable[[str, list[Task], str], None]
    ends: State | None = None

    @property
    def runs_again(self) -> bool:
        """Whether finished tasks become live ones."""
        return self.write is write_retry

    @property
    def leaves_state(self) -> bool:
        """Whether tasks come to another state."""
        return self.runs_again or self.ends is not None


@dataclass
class Moved:
    """What became of each task: an event, or the error that says why nothing was done."""

    events: dict[int, TaskEvent] = field(default_factory=dict)
    refused: dict[int, AftersaveError] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)


def move(using: str, ids: Collection[int], way: Move, deed: Deed) -> Moved:
    """Do it to all tasks it fits, in one transaction; waits for rows that are locked."""
    with transaction.atomic(using=using):
        rows = lock(using, ids, way)
        moved = Moved(gone=set(ids) - rows.keys())
        done = write(using, rows.values(), way, deed, moved)
        moved.events = record(using, done, deed, way)
    return moved


def write(using: str, rows: Iterable[Task], way: Move, deed: Deed, moved: Moved) -> list[Task]:
    """Do it to the locked rows it fits, and return them; why not to others is noted."""
    fitting = [row for row in rows if _fits(row, way, moved)]
    if way.runs_again:
        return _retry_with_keys(using, fitting, moved)
    if fitting:
        line = f"{way.wanted} by {deed.who}" if deed.who else way.wanted
        way.write(using, fitting, one_line(f"{line}: {deed.reason}" if deed.reason else line))
    return fitting


def lock(using: str, ids: Collection[int], way: Move, *, whole: bool = False) -> dict[int, Task]:
    """The tasks that still exist, locked with all that doing it touches; ``_after`` is filled.

    ``whole`` loads their data too.
    """
    after: dict[int, list[int]] = defaultdict(list)
    touched = set(ids)
    if way.runs_again:
        # Whether it must wait depends on what its prerequisites are.
        links = Prerequisite.objects.using(using).filter(task__in=ids)
        for task_id, prerequisite_id in links.values_list("task_id", "prerequisite_id"):
            after[task_id].append(prerequisite_id)
        touched.update(*after.values())
    if way.ends:
        touched |= waiting_below(using, ids, way.ends)
    found = Task.objects.using(using).filter(pk__in=touched).locked()
    rows = {row.pk: row for row in (found if whole else found.defer("data", "result"))}
    for task_id in after.keys() & rows.keys():
        rows[task_id]._after = tuple(rows[key] for key in after[task_id] if key in rows)
    return {pk: rows[pk] for pk in sorted(ids) if pk in rows}


def _fits(row: Task, way: Move, moved: Moved) -> bool:
    if row.shown_state in way.states:
        return True
    allowed = ", ".join(way.states)
    moved.refused[row.pk] = TransitionRefused(row, row.shown_state, way.wanted, allowed)
    return False


def _retry_with_keys(using: str, rows: list[Task], moved: Moved) -> list[Task]:
    for attempt in range(_TRIES_FOR_A_UNIQUE_KEY):
        taken = _taken_keys(using, rows)
        moved.refused |= taken
        rows = [row for row in rows if row.pk not in taken]
        try:
            with transaction.atomic(using=using):
                write_retry(using, rows)
            return rows
        except IntegrityError:
            # Somebody committed one of the keys since we looked: look again.
            if attempt == _TRIES_FOR_A_UNIQUE_KEY - 1:
                raise
    raise AssertionError("unreachable")


def _taken_keys(using: str, rows: list[Task]) -> dict[int, AftersaveError]:
    wanted = {key: row for row in reversed(rows) if (key := row.context.get("unique_key"))}
    if not wanted:
        return {}
    held = Task.objects.using(using).filter(live_key__in=list(wanted))
    holders = {key: row.pk for key, row in wanted.items()}  # the first of these gets it
    holders |= dict(held.values_list("live_key", "pk"))
    return {
        row.pk: UniqueKeyTaken(row, holder)
        for row in rows
        if (holder := holders.get(row.context.get("unique_key"), row.pk)) != row.pk
    }


def write_retry(using: str, rows: list[Task], line: str = "") -> None:
    """Make finished tasks due again, or waiting where a prerequisite may still complete."""
    groups: dict[tuple[int, bool], list[Task]] = defaultdict(list)
    for row in rows:
        # As many attempts as it was created with, however often it is retried.
        groups[row.context.get("max_attempts", row.max_attempts), _must_wait(row)].append(row)
    for (allowed, must_wait), group in groups.items():
        state = State.WAITING if must_wait else State.SCHEDULED
        Task.objects.using(using).filter(pk__in=[row.pk for row in group]).update(
            state=state,
            due=not must_wait,
            run_at=DatabaseNow(),
            max_attempts=F("attempts") + allowed,
            context=_Remembered("context", allowed=allowed, output_field=models.JSONField()),
            result=None,
            progress_value=None,
            started_at=None,
            finished_at=None,
            worker_id=None,
            reason="",
            fingerprint="",
            live_key=_keys(group),
        )
        if not must_wait:
            bell.ring_after_commit(using, {row.queue for row in group})


def _must_wait(row: Task) -> bool:
    # Of a cancelled prerequisite the person has decided; any other may still complete.
    settled = (State.COMPLETED, State.CANCELLED)
    return any(prerequisite.state not in settled for prerequisite in row._after)


def _keys(rows: Iterable[Task]) -> Any:
    keyed = [(row.pk, key) for row in rows if (key := row.context.get("unique_key"))]
    cases = [When(pk=pk, then=Value(key)) for pk, key in keyed]
    return Case(*cases, default=None) if cases else None


class _Remembered(models.Func):
    """The task's context, with how many attempts it was created with."""

    template = "JSON_SET(%(expressions)s, '$.max_attempts', %(allowed)d)"

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Any:
        template = "(%(expressions)s || jsonb_build_object('max_attempts', %(allowed)d))"
        return self.as_sql(compiler, connection, template=template, **context)


def write_run_now(using: str, rows: list[Task], line: str) -> None:
    """Make tasks due whose time has not come."""
    ids = [row.pk for row in rows]
    Task.objects.using(using).filter(pk__in=ids).update(due=True, run_at=DatabaseNow())
    bell.ring_after_commit(using, {row.queue for row in rows})


def write_cancelled(using: str, rows: list[Task], line: str) -> None:
    """Withdraw tasks, and what waits for them."""
    settle_by_hand(using, [row.pk for row in rows], State.CANCELLED, line)


def write_completed(using: str, rows: list[Task], line: str) -> None:
    """End tasks as done, and release what waits for them."""
    settle_by_hand(using, [row.pk for row in rows], State.COMPLETED, line)


def record(
    using: str, rows: Sequence[Task], deed: Deed, way: Move, **changes: Any
) -> dict[int, TaskEvent]:
    """Write one event for each task; listeners hear of them after the commit.

    ``rows`` are as they were before.
    """
    if not rows:
        return {}
    now = database_now(using)
    events = [
        _event(deed, task=row, at=now, ended=end_of(row) if way.leaves_state else None, **changes)
        for row in rows
    ]
    if len(events) == 1:
        events[0].save(using=using, force_insert=True)
    else:
        TaskEvent.objects.using(using).bulk_create(events)
    page_bell.changed_after_commit(using, (row.queue for row in rows))
    _announce(using, events)
    return {event.task_id: event for event in events if event.task_id}


def record_beside(
    using: str, deed: Deed, *, queue: str = "", about: BulkAction | None = None
) -> TaskEvent:
    """Write the event of what was done to no task: to a queue, an incident or a bulk action."""
    event = _event(deed, at=database_now(using), queue=queue, about=about)
    event.save(using=using, force_insert=True)
    page_bell.changed_after_commit(using, [page_bell.ANY])
    _announce(using, [event])
    return event


def _event(deed: Deed, **columns: Any) -> TaskEvent:
    return TaskEvent(
        who=deed.who,
        action=deed.action,
        reason=clean(deed.reason, LONGEST_REASON),
        bulk=deed.bulk,
        incident=deed.incident,
        **columns,
    )


def end_of(row: Task) -> dict[str, Any] | None:
    """How ``row`` has ended, None where it has not or its failures tell it."""
    if row.state not in FINAL or row.fingerprint:
        return None
    known = {name: getattr(row, name) for name in ("state", "reason", "attempts", "lease")}
    times = {name: getattr(row, name) for name in ("started_at", "finished_at")}
    isoformat = {name: moment and moment.isoformat() for name, moment in times.items()}
    return {**known, **isoformat, "worker_id": row.worker_id}


def _announce(using: str, events: Iterable[TaskEvent]) -> None:
    if signals.staff_acted.has_listeners():
        for event in events:
            send = partial(signals.staff_acted.send_robust, None, using=using, event=event)
            transaction.on_commit(send, using=using, robust=True)
