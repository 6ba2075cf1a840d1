"""What this process did, by minute, queue and name: counted at the end of attempts, written by
the engine's thread every few seconds."""

from __future__ import annotations

import time

from django.db import connections
from django.db.utils import Error as DatabaseError

from tasks.figures import MINUTE, Key
from tasks.locks import is_busy
from tasks.models import FINAL
from tasks.settle import Ending
from tasks.summing import Tallied, sum_again, with_sums, write
from workers import log
from workers.attempt import Attempt, Clock, Later, Outcome, Written, as_datetime, runnable_at

WRITE_EVERY = 5.0
#: While the database is away so many minutes are remembered.
MOST_MINUTES = 24 * 60

_COLUMNS: dict[str, str] = {state.value: state.value for state in FINAL}

Slot = tuple[int, int]  # process, minute
Names = dict[Key, Tallied]


class Tally:
    """Counts of one process; used by the engine's thread alone."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._process = 0
        self._minutes: dict[Slot, Names] = {}
        self._unwritten: set[Slot] = set()
        self._names: Names = {}  # of the minute that lasts until then (time.monotonic())
        self._until = 0.0
        self._seen = 0  # the last minute in which we said that we are here
        self._latest = 0
        self._since: float | None = None
        self._not_before = 0.0

    def serve_as(self, process: int) -> None:
        """From here on count for this worker id; what was counted before stays with the old one."""
        self._process, self._seen, self._until, self._latest = process, 0, 0.0, 0

    def add(self, attempt: Attempt, outcome: Outcome) -> None:
        """Count an attempt that ended, unless it does not count."""
        column = _column(outcome)
        if column is None:
            return
        if attempt.ended >= self._until:
            self._open()
        task = attempt.task
        key = (task.queue, task.type, task.action)
        one = self._names.get(key)
        if one is None:
            one = self._names[key] = Tallied()
        setattr(one.counts, column, getattr(one.counts, column) + 1)
        one.run.add(attempt.ended - attempt.entered)
        one.wait.add(attempt.entered_at - runnable_at(task))

    def _open(self) -> None:
        now = self.clock.time()
        slot = (self._process, self._minute())
        self._until = time.monotonic() + 60 - now % 60
        self._unwritten.add(slot)
        self._names = self._minutes.setdefault(slot, {})
        if self._since is None:
            self._since = time.monotonic()
        if len(self._minutes) > MOST_MINUTES:
            oldest = min(self._minutes, key=lambda slot: slot[1])
            del self._minutes[oldest]
            self._unwritten.discard(oldest)

    def _minute(self) -> int:
        # Of a minute that was written only the sum is known there: a clock that is set back must
        # not lead to it again.
        self._latest = max(self._latest, int(self.clock.time() // 60))
        return self._latest

    def due(self, now: float) -> bool:
        """Whether it is time to write: something was counted a while ago, or a minute began."""
        if now < self._not_before or not self._process:
            return False
        counted = self._since is not None and now - self._since >= WRITE_EVERY
        return counted or self._minute() != self._seen

    def write(self, using: str) -> bool:
        """Store what was counted, and that this process is there; whether something was counted.

        Rows hold the whole minute so far, so that writing them again after a lost answer changes
        nothing. Raises the database's error when the connection is lost; nothing is forgotten then.
        """
        here = (self._process, self._minute())
        is_new = self._process and here[1] != self._seen
        slots = self._unwritten | {here} if is_new else self._unwritten
        counted = bool(self._unwritten)
        try:
            for process, minute in sorted(slots, key=lambda slot: slot[1]):
                rows = with_sums(self._minutes.get((process, minute), {}).items())
                start = as_datetime(minute * 60)
                write(using, start=start, span=MINUTE, process=process, rows=rows)
                if minute // 10 < here[1] // 10:
                    sum_again(using, start)
        except DatabaseError as error:
            # Figures are worth no standstill: only what concerns all work is passed on.
            if not is_busy(error) and not connections[using].is_usable():
                raise
            log.figures_refused(error)
            self._not_before = time.monotonic() + WRITE_EVERY
            return counted
        self._seen, self._since, self._until = here[1], None, 0.0
        self._unwritten.clear()
        self._minutes = {here: self._minutes[here]} if here in self._minutes else {}
        return counted


def _column(outcome: Outcome) -> str | None:
    if isinstance(outcome, Ending):
        return _COLUMNS.get(outcome.state)
    if isinstance(outcome, Written):
        return None if outcome.lost else "completed"
    if isinstance(outcome, Later) and outcome.failure is not None:
        return "retried"
    return None
