"""One attempt: a claimed task in a worker's hands, and what may come of it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.utils import timezone

from tasks.conf import aftersave_settings
from tasks.handlers import Handler
from tasks.models import Failure, LogLine, Task
from tasks.settle import Ending
from tasks.text import clean_line

_HIGHEST_LEVEL = 2**15 - 1


@dataclass(slots=True, kw_only=True)
class Later:
    """Try the task again at ``run_at``. Without ``failure`` it only snoozes: the attempt does not
    count."""

    task_id: int
    lease: int
    run_at: datetime
    failure: Failure | None
    started_at: datetime | None
    due: bool = False


@dataclass(slots=True, kw_only=True)
class GivenBack:
    """The attempt does not count; the task stands where it stood."""

    task_id: int
    lease: int
    queue: str


@dataclass(slots=True, kw_only=True)
class Written:
    """The handler's own transaction wrote the ending, or found that the lease was lost."""

    task_id: int
    lease: int
    lost: bool = False


Outcome = Ending | Later | GivenBack | Written


class Clock:
    """The database's clock, told from this process by the offset last measured."""

    def __init__(self) -> None:
        self.offset = 0.0

    def measure(self, database_now: datetime) -> None:
        """Remember how far the database's clock is ahead of ours."""
        if timezone.is_naive(database_now):
            database_now = timezone.make_aware(database_now)
        self.offset = database_now.timestamp() - time.time()

    def time(self) -> float:
        """The database's time in seconds since 1970."""
        return time.time() + self.offset

    def now(self) -> datetime:
        """The database's time, aware exactly when USE_TZ is on."""
        return as_datetime(self.time())


def as_datetime(epoch: float) -> datetime:
    """Seconds since 1970 as a moment that is aware exactly when USE_TZ is on."""
    moment = datetime.fromtimestamp(epoch, UTC)
    return moment if settings.USE_TZ else timezone.make_naive(moment)


def runnable_at(task: Task) -> float:
    """Since when a claimed task could have run, in seconds since 1970."""
    claimed = task._runnable_at
    return task.run_at.timestamp() if claimed is None else claimed


@dataclass(slots=True, eq=False)
class Attempt:
    """A task between claim and outcome; what ``task.log`` and ``task.progress`` write to."""

    task: Task
    handler: Handler
    claimed: float  # time.monotonic()
    clock: Clock
    say: Callable[[Attempt, LogLine | None], None]
    started_at: datetime | None = None
    entered_at: float = 0.0  # as started_at, in seconds since 1970
    entered: float = 0.0  # the same and its end in time.monotonic()
    ended: float = 0.0
    lost: bool = False
    logged: int = 0
    told_progress: dict[str, float | None] | None = None
    has_said_progress: bool = False
    has_told_start: bool = False

    @property
    def is_last(self) -> bool:
        """Whether no further attempt is allowed."""
        return bool(self.task.attempts >= self.task.max_attempts)

    def enter(self) -> None:
        """The handler is entered now."""
        self.entered_at = self.clock.time()
        self.started_at = as_datetime(self.entered_at)
        self.entered = time.monotonic()

    def leave(self) -> None:
        """The handler is left, and its outcome known."""
        self.ended = time.monotonic()

    def log(self, text: str, level: int) -> None:
        """Hand a line to the flusher; past the limit of the attempt one line says so."""
        limit = aftersave_settings.LOG_LINES
        self.logged += 1
        if self.logged > limit + 1:
            return
        if self.logged == limit + 1:
            level, text = logging.WARNING, f"{limit} lines logged; the rest of this attempt is cut."
        line = LogLine(
            task_id=self.task.pk,
            attempt=self.task.attempts,
            at=self.clock.now(),
            level=max(0, min(level, _HIGHEST_LEVEL)),
            text=clean_line(text),
        )
        self.say(self, line)

    def progress(self, done: float, total: float | None) -> None:
        """Hand the newest progress to the flusher; older ones need not be written."""
        self.told_progress = {"done": _figure(done), "total": _figure(total)}
        if not self.has_said_progress:
            self.has_said_progress = True
            self.say(self, None)


def _figure(value: float | None) -> float | None:
    """A number that JSON has: no Decimal, no NaN. Raises what ``float()`` raises."""
    if value is None or (type(value) is int and abs(value) < 2**53):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
