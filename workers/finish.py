"""Writing what came of attempts: in batches, fenced by the lease, and whatever happens, once."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.db.utils import Error as DatabaseError

from tasks.locks import is_busy
from tasks.models import FINAL, LogLine, State, Task
from tasks.settle import Ending, settle
from workers import log
from workers.attempt import Attempt, GivenBack, Later, Outcome, Written
from workers.outcomes import Said, give_back, reschedule, write_said
from workers.refusal import about_content

FLUSH_DELAY = 0.015
FLUSH_AT = 200
#: What was locked is tried again after so many seconds.
TRY_AGAIN = 0.1
_AT_ONCE = 1000
_BYTES_AT_ONCE = 8 * 1024 * 1024

Row = TypeVar("Row", Ending, Later, GivenBack)


class Flusher:
    """Collects outcomes, log lines and progress from all threads; the engine's thread writes."""

    def __init__(self, using: str, wake: Callable[[], None]) -> None:
        self.using = using
        self.wake = wake
        self.urgent = False
        self.spoken: Counter[str] = Counter()  # lines and progress by queue, as Hands.ended
        self.written: list[tuple[Attempt, Outcome]] = []  # for whoever counts and clears it
        self._attempts: dict[tuple[int, int], Attempt] = {}  # by task and lease
        self._outcomes: deque[Outcome] = deque()
        self._lines: deque[Said] = deque()
        self._since: float | None = None
        self._left: list[Outcome] = []
        self._left_lines: list[Said] = []
        self._try_again_at: float | None = None

    @property
    def has_left(self) -> bool:
        """Whether the last flush could not write everything."""
        return bool(self._left)

    def __len__(self) -> int:
        return len(self._outcomes) + len(self._left)

    def push(
        self, outcome: Outcome, *, urgent: bool = False, attempt: Attempt | None = None
    ) -> None:
        """Take an outcome; any thread. ``urgent``: do not wait for others to write with.

        With its ``attempt`` it is found in ``written`` when it is.
        """
        if attempt is not None:
            self._attempts[outcome.task_id, outcome.lease] = attempt
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
        return task_id in self.pending()

    def pending(self) -> list[int]:
        """Ids of the tasks with unwritten outcomes."""
        # list(): the other threads append to it meanwhile.
        return [outcome.task_id for outcome in [*self._left, *list(self._outcomes)]]

    def due_at(self, *, idle: bool = False) -> float | None:
        """When the oldest thing must be written (time.monotonic()), None if there is nothing.

        ``idle``: no more is to be expected, so that nothing is gained by waiting.
        """
        fresh = self._since is not None
        if self.urgent or len(self._outcomes) >= FLUSH_AT or (idle and fresh):
            return 0.0
        if self._since is None:
            return self._try_again_at
        return min(self._since + FLUSH_DELAY, self._try_again_at or math.inf)

    def forget(self) -> list[int]:
        """Drop everything: the leases are lost. Returns the ids of the tasks concerned."""
        dropped = self.pending()
        for unwritten in (self._outcomes, self._lines, self._left, self._left_lines):
            unwritten.clear()
        self._attempts.clear()
        self._since = self._try_again_at = None
        return dropped

    def flush(self, worker_id: int, *, everything: bool = False) -> None:
        """Write all that was pushed; what is locked is tried again a moment later.

        ``everything``: try it now, too. Raises the database's error when the connection is lost;
        nothing is forgotten then.
        """
        self._since, self.urgent = None, False
        if everything or (self._try_again_at or math.inf) <= time.monotonic():
            self._outcomes.extendleft(reversed(self._left))
            self._lines.extendleft(reversed(self._left_lines))
            self._left, self._left_lines = [], []
            self._try_again_at = None
        try:
            self._write_lines(worker_id)
            self._write_outcomes(worker_id)
        finally:
            if self._try_again_at is None and (self._left or self._left_lines):
                self._try_again_at = time.monotonic() + TRY_AGAIN
            if (self._outcomes or self._lines) and self._since is None:
                self._since = time.monotonic()

    def _write_outcomes(self, worker_id: int) -> None:
        for _ in range(len(self._outcomes) // _AT_ONCE + 1):
            chunk = self._next_chunk()
            try:
                left = self._write_chunk(worker_id, chunk)
            except BaseException:
                self._outcomes.extendleft(reversed(chunk))
                raise
            self._left += left
            self._note_written(chunk, left)

    def _note_written(self, chunk: list[Outcome], left: list[Outcome]) -> None:
        missing = {id(outcome) for outcome in left}
        for outcome in chunk:
            if id(outcome) not in missing and not isinstance(outcome, GivenBack):
                attempt = self._attempts.pop((outcome.task_id, outcome.lease), None)
                if attempt is not None:
                    self.written.append((attempt, outcome))

    def _next_chunk(self) -> list[Outcome]:
        chunk: list[Outcome] = []
        size = 0
        while self._outcomes and len(chunk) < _AT_ONCE and size < _BYTES_AT_ONCE:
            outcome = self._outcomes.popleft()
            chunk.append(outcome)
            size += len(outcome.result or "") if isinstance(outcome, Ending) else 0
        return chunk

    def _write_chunk(self, worker_id: int, chunk: list[Outcome]) -> list[Outcome]:
        for outcome in chunk:
            if isinstance(outcome, Written) and outcome.lost:
                self._lose(outcome)
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
            if is_busy(error):
                return list(rows)
            if not about_content(error):
                raise
            if len(rows) == 1:
                log.content_refused(rows[0].task_id, error)
                _strip(rows[0])
                return list(rows)
            half = len(rows) // 2
            first = self._write(worker_id, rows[:half], write)
            return first + self._write(worker_id, rows[half:], write)
        missing = [row for row in rows if row.task_id not in written]
        return self._still_ours(worker_id, missing) if missing else []

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
                self._lose(row)
        return ours

    def _lose(self, outcome: Outcome) -> None:
        log.lease_lost(outcome.task_id)
        if not isinstance(outcome, GivenBack):
            self._attempts.pop((outcome.task_id, outcome.lease), None)

    def _write_lines(self, worker_id: int) -> None:
        said = [self._lines.popleft() for _ in range(len(self._lines))]
        try:
            self._left_lines += self._write_said(worker_id, said) if said else []
            self.spoken.update(attempt.task.queue for attempt, _ in said)
        except DatabaseError:
            self._lines.extendleft(reversed(said))
            raise

    def _write_said(self, worker_id: int, said: Sequence[Said]) -> list[Said]:
        """Write lines and progress or, where some are refused, all others; returns the locked."""
        try:
            return write_said(self.using, worker_id, said)
        except DatabaseError as error:
            if is_busy(error):
                return list(said)
            if not about_content(error):
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
