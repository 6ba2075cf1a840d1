"""Writing what came of attempts: in batches, fenced by the lease, and whatever happens, once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.db import connections, transaction
from django.db.models import F
from django.db.utils import DataError, IntegrityError, OperationalError
from django.db.utils import Error as DatabaseError

from tasks.models import FINAL, Failure, LogLine, State, Task
from tasks.settle import Ending, settle
from workers import log
from workers.attempt import Attempt, GivenBack, Later, Outcome, Written

FLUSH_DELAY = 0.015
FLUSH_AT = 200
#: Seconds until what an error without a word about content refuses counts as refused content.
_PATIENCE = 60.0

Row = TypeVar("Row", Ending, Later, GivenBack)
Said = tuple[Attempt, LogLine | None]


class Flusher:
    """Collects outcomes, log lines and progress from all threads; the engine's thread writes."""

    def __init__(self, using: str, wake: Callable[[], None]) -> None:
        self.using = using
        self.wake = wake
        self.urgent = False
        self._outcomes: deque[Outcome] = deque()
        self._lines: deque[Said] = deque()
        self._since: float | None = None
        self._refused: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self._outcomes)

    def push(self, outcome: Outcome, *, urgent: bool = False) -> None:
        """Take an outcome; any thread. ``urgent``: do not wait for others to write with."""
        self._outcomes.append(outcome)
        if self._since is None:
            self._since = time.monotonic()
        if urgent:
            self.urgent = True
        self.wake()

    def say(self, attempt: Attempt, line: LogLine | None) -> None:
        """Take a log line, or without one the attempt's progress; any thread."""
        self._lines.append((attempt, line))
        if self._since is None:
            self._since = time.monotonic()
            self.wake()

    def holds(self, task_id: int) -> bool:
        """Whether an outcome of this task is not written yet."""
        return any(outcome.task_id == task_id for outcome in self._outcomes)

    def pending(self) -> list[int]:
        """Ids of the tasks with unwritten outcomes."""
        return [outcome.task_id for outcome in self._outcomes]

    def due_at(self) -> float | None:
        """When the oldest thing must be written (time.monotonic()), None if there is nothing."""
        if self.urgent or len(self._outcomes) >= FLUSH_AT:
            return 0.0
        return None if self._since is None else self._since + FLUSH_DELAY

    def forget(self) -> list[int]:
        """Drop everything: the leases are lost. Returns the ids of the tasks concerned."""
        dropped = self.pending()
        self._outcomes.clear()
        self._lines.clear()
        self._since = None
        return dropped

    def flush(self, worker_id: int) -> None:
        """Write all that was pushed; what is locked stays for the next time.

        Raises the database's error when the connection is lost; nothing is forgotten then.
        """
        self._since, self.urgent = None, False
        self._write_lines(worker_id)
        batch = [self._outcomes.popleft() for _ in range(len(self._outcomes))]
        left: list[Outcome] = []
        chunk: list[Outcome] = []
        try:
            while batch:
                chunk, batch = batch[:1000], batch[1000:]
                left += self._write_chunk(worker_id, chunk)
        except BaseException:
            left += chunk + batch
            raise
        finally:
            self._outcomes.extendleft(reversed(left))
            if left and self._since is None:
                self._since = time.monotonic()

    def _write_chunk(self, worker_id: int, chunk: list[Outcome]) -> list[Outcome]:
        for outcome in chunk:
            if isinstance(outcome, Written) and outcome.lost:
                log.lease_lost(outcome.task_id)
        endings = [outcome for outcome in chunk if isinstance(outcome, Ending)]
        laters = [outcome for outcome in chunk if isinstance(outcome, Later)]
        returned = [outcome for outcome in chunk if isinstance(outcome, GivenBack)]
        left: list[Outcome] = []
        left += self._write(worker_id, endings, settle)
        left += self._write(worker_id, laters, reschedule)
        left += self._write(worker_id, returned, give_back)
        return left

    def _write(
        self,
        worker_id: int,
        rows: Sequence[Row],
        write: Callable[[str, int, Sequence[Row]], set[int]],
    ) -> list[Row]:
        """Write ``rows`` or, where the database refuses some, all the others; returns the rest."""
        if not rows:
            return []
        try:
            written = write(self.using, worker_id, rows)
        except DatabaseError as error:
            if not self._about_content(error):
                raise
            if isinstance(error, OperationalError) and connections[self.using].vendor == "sqlite":
                # Locked for too long, or the disk is full; it never speaks of content.
                return list(rows)
            if len(rows) == 1:
                return self._refused_row(rows[0], error)
            half = len(rows) // 2
            first = self._write(worker_id, rows[:half], write)
            return first + self._write(worker_id, rows[half:], write)
        missing = [row for row in rows if row.task_id not in written]
        return self._still_ours(worker_id, missing) if missing else []

    def _about_content(self, error: DatabaseError) -> bool:
        if isinstance(error, DataError | IntegrityError):
            return True
        return connections[self.using].is_usable()

    def _refused_row(self, row: Row, error: DatabaseError) -> list[Row]:
        """Try a refused row again, then without what may be refused; never lose it."""
        since = self._refused.setdefault(row.task_id, time.monotonic())
        waited = time.monotonic() - since > _PATIENCE
        if waited or isinstance(error, DataError | IntegrityError):
            log.content_refused(row.task_id, error)
            _strip(row)
        return [row]

    def _still_ours(self, worker_id: int, rows: Sequence[Row]) -> list[Row]:
        """Of rows not written those to try again: locked by somebody, or with new dependents."""
        now = Task.objects.using(self.using).filter(pk__in=[row.task_id for row in rows])
        columns = ("id", "state", "lease", "worker_id", "has_dependents")
        found: dict[int, dict[str, Any]] = {row["id"]: row for row in now.values(*columns)}
        ours: list[Row] = []
        for row in rows:
            stored = found.get(row.task_id)
            same_lease = stored and (stored["lease"], stored["worker_id"]) == (row.lease, worker_id)
            if stored and same_lease and stored["state"] == State.RUNNING:
                if isinstance(row, Ending):
                    row.has_dependents = stored["has_dependents"]
                ours.append(row)
            elif same_lease and stored and stored["state"] in FINAL:
                # An earlier try was committed though its answer was lost.
                continue
            else:
                log.lease_lost(row.task_id)
        return ours

    def _write_lines(self, worker_id: int) -> None:
        said = [self._lines.popleft() for _ in range(len(self._lines))]
        try:
            left = self._write_said(worker_id, said) if said else []
        except DatabaseError:
            self._lines.extendleft(reversed(said))
            raise
        self._lines.extendleft(reversed(left))
        if left and self._since is None:
            self._since = time.monotonic()

    def _write_said(self, worker_id: int, said: Sequence[Said]) -> list[Said]:
        """Write lines and progress or, where some are refused, all others; returns the locked."""
        try:
            return _write_said(self.using, worker_id, said)
        except DatabaseError as error:
            if not self._about_content(error):
                raise
            if len(said) == 1:
                log.line_refused(said[0][0].task.pk, error)
                return []
            half = len(said) // 2
            first = self._write_said(worker_id, said[:half])
            return first + self._write_said(worker_id, said[half:])


def _strip(row: Row) -> None:
    """Leave away what a database may refuse to keep."""
    if isinstance(row, Ending):
        row.result = None
    if isinstance(row, Ending | Later) and row.failure is not None:
        plain = row.failure.message.encode("ascii", "replace").replace(b"\0", b"?")
        row.failure.message = plain.decode()[:200]
        row.failure.traceback = ""


def _write_said(using: str, worker_id: int, said: Sequence[Said]) -> list[Said]:
    attempts = {attempt.task.pk: attempt for attempt, _ in said}
    rows = Task.objects.using(using).filter(pk__in=list(attempts), worker_id=worker_id)
    with transaction.atomic(using=using):
        # Whatever their state: an atomic handler has ended its task before its lines come here.
        locked = dict(rows.locked(skip=True).values_list("pk", "lease"))
        ours = [entry for entry in said if locked.get(entry[0].task.pk) == entry[0].task.lease]
        lines = [line for _, line in ours if line is not None]
        LogLine.objects.using(using).bulk_create(lines, batch_size=1000)
        for attempt in {attempt for attempt, line in ours if line is None}:
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
    """Schedule failed attempts again and keep their failures; returns the ids written."""
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
            )
        Failure.objects.using(using).bulk_create([later.failure for later in mine])
    return held


def give_back(using: str, worker_id: int, rows: Sequence[GivenBack]) -> set[int]:
    """Put tasks back where they stood, with the attempt refunded; returns the ids written."""
    with transaction.atomic(using=using):
        held = held_rows(using, worker_id, {row.task_id: row.lease for row in rows})
        Task.objects.using(using).filter(pk__in=held).update(**RETURNED, attempts=F("attempts") - 1)
    return held


#: What a task looks like that goes back to the front of its queue.
RETURNED: dict[str, Any] = {
    "state": State.SCHEDULED,
    "due": True,
    "worker_id": None,
    "started_at": None,
}


def mark_started(using: str, worker_id: int, attempt: Attempt) -> bool:
    """Write that the last allowed attempt enters its handler; False when the lease is lost."""
    task = attempt.task
    rows = Task.objects.using(using).filter(
        pk=task.pk, lease=task.lease, worker_id=worker_id, state=State.RUNNING
    )
    return rows.update(started_at=attempt.clock.now()) == 1
