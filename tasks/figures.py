"""What the roll-ups tell: how much was done, how long it waited and ran, minute by minute.

Each question is one statement, over roll-ups and never over finished tasks. Rows that sum up a
queue, or everything, are stored beside those of single names, so asking without ``names`` is cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Min, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from tasks.histogram import Histogram
from tasks.models import Figure, Task
from tasks.models.due import DUE_SQL, LEVELS_SQL
from tasks.names import split_name

MINUTE, TEN_MINUTES, HOUR = 60, 600, 3600
#: What is stored, from fine to coarse: minutes by process, then sums over all processes.
SPANS = (MINUTE, TEN_MINUTES, HOUR)
COUNTS = ("completed", "failed", "retried", "cancelled")


@dataclass(slots=True)
class Counts:
    """What attempts came to. ``retried``: failed attempts of tasks that are tried again."""

    completed: int = 0
    failed: int = 0
    retried: int = 0
    cancelled: int = 0

    @property
    def finished(self) -> int:
        """Tasks that came to an end."""
        return self.completed + self.failed + self.cancelled

    @property
    def attempts(self) -> int:
        """Attempts that succeeded or failed."""
        return self.completed + self.failed + self.retried

    @property
    def failing_share(self) -> float | None:
        """Which share of the attempts failed, 0 to 1; None without attempts."""
        return (self.failed + self.retried) / self.attempts if self.attempts else None

    def add(self, completed: int, failed: int, retried: int, cancelled: int) -> None:
        """Add what another row counted."""
        self.completed += completed
        self.failed += failed
        self.retried += retried
        self.cancelled += cancelled


@dataclass(slots=True)
class Point:
    """What workers reported for the ``seconds`` from ``start`` on; waits and runs in seconds."""

    start: datetime
    seconds: int
    counts: Counts = field(default_factory=Counts)
    wait: Histogram = field(default_factory=Histogram)
    run: Histogram = field(default_factory=Histogram)


def floor(moment: datetime, span: int) -> datetime:
    """The beginning of the span of so many seconds that ``moment`` lies in."""
    epoch = int(moment.timestamp()) // span * span
    start = datetime.fromtimestamp(epoch, UTC)
    return start if settings.USE_TZ else timezone.make_naive(start)


def series(
    using: str,
    *,
    since: datetime,
    until: datetime,
    step: int = MINUTE,
    queues: Collection[str] | None = None,
    names: Collection[str] | None = None,
) -> list[Point | None]:
    """One item for each ``step`` seconds between ``since`` and ``until``; None where nobody
    reported, which is a gap and not zero.

    ``step`` is a multiple of 60. Single minutes are kept for two days, multiples of 600 for eight,
    multiples of 3600 for AFTERSAVE["KEEP_FIGURES"]; what is older is a gap. ``queues`` and
    ``names`` narrow, None means all.
    """
    if step <= 0 or step % MINUTE:
        raise ValueError(f"step={step!r}, but it is a multiple of {MINUTE} seconds")
    span = max(span for span in SPANS if step % span == 0)
    first = int(since.timestamp()) // step * step
    points: list[Point | None] = [None] * max(0, -((first - int(until.timestamp())) // step))
    counts = _selected(queues, names)
    rows = _rows(using, span, floor(since, step), until).filter(_choice(queues, names))
    columns = ("span", "start", "queue", "type", "action", *COUNTS, "wait", "run")
    for _span, start, queue, type_, action, *numbers, wait, run in _uncovered(
        rows.values_list(*columns), span
    ):
        at = (int(start.timestamp()) - first) // step
        if not 0 <= at < len(points):
            continue
        point = points[at]
        if point is None:
            moment = floor(since, step) + timedelta(seconds=at * step)
            point = points[at] = Point(moment, step)
        if counts(queue, type_, action):
            point.counts.add(*numbers)
            point.wait.merge(wait)
            point.run.merge(run)
    return points


def totals(
    using: str,
    *,
    since: datetime,
    until: datetime | None = None,
    queues: Collection[str] | None = None,
    names: Collection[str] | None = None,
) -> Counts:
    """What was done since then. Times count as whole minutes, over long spans as ten or sixty."""
    found = Counts()
    counts = _selected(queues, names)
    for key, numbers in _summed(using, since, until, _choice(queues, names)):
        if counts(*key):
            found.add(*numbers)
    return found


def by_queue(using: str, *, since: datetime, until: datetime | None = None) -> dict[str, Counts]:
    """``totals`` of each queue in which something was done."""
    found: dict[str, Counts] = {}
    for key, numbers in _summed(using, since, until, Q(type="") & ~Q(queue="")):
        found.setdefault(key[0], Counts()).add(*numbers)
    return found


def by_name(using: str, *, since: datetime, until: datetime | None = None) -> dict[str, Counts]:
    """``totals`` of each task name of which something was done."""
    found: dict[str, Counts] = {}
    for (_, type_, action), numbers in _summed(using, since, until, ~Q(type="")):
        found.setdefault(f"{type_}.{action}", Counts()).add(*numbers)
    return found


def was_reported(using: str, *, since: datetime, until: datetime) -> bool:
    """Whether any process said that it was there in one of these minutes."""
    return _rows(using, MINUTE, floor(since, MINUTE), until).filter(queue="").exists()


_OLDEST = f"""
    FROM tasks_task task
    WHERE {DUE_SQL} AND task.queue = level.queue AND task.priority = level.priority
    ORDER BY task.queue, task.priority DESC, task.run_at, task.id LIMIT 1
"""
_OLDEST_DUE = f"""
WITH RECURSIVE {LEVELS_SQL}
SELECT (SELECT task.id {_OLDEST}) AS id, level.queue, (SELECT task.run_at {_OLDEST}) AS run_at
FROM level WHERE level.priority IS NOT NULL
"""


def oldest_due(using: str) -> dict[str, datetime]:
    """For each queue with due tasks, paused or not, since when the oldest could have run."""
    tasks = Task.objects.using(using)
    if not connections[using].features.supports_partial_indexes:
        oldest = tasks.due().order_by("queue").values("queue").annotate(since=Min("run_at"))
        return dict(oldest.values_list("queue", "since"))
    found: dict[str, datetime] = {}
    for task in tasks.raw(_OLDEST_DUE):
        found[task.queue] = min(task.run_at, found.get(task.queue, task.run_at))
    return found


def _rows(using: str, span: int, since: datetime, until: datetime | None) -> QuerySet[Figure]:
    """Rows of ``span``, and the minutes from the beginning of the last that was summed up."""
    figures = Figure.objects.using(using)
    wanted = Q(span=span, start__gte=since)
    if span != MINUTE:
        last = figures.filter(span=span).order_by("-start").values("start")[:1]
        frontier = Coalesce(Subquery(last), Value(since))
        wanted |= Q(span=MINUTE, start__gte=since) & Q(start__gte=frontier)
    rows = figures.filter(wanted)
    return rows if until is None else rows.filter(start__lt=until)


def _uncovered(rows: Iterable[Any], span: int) -> Iterator[Any]:
    """Rows that begin with span and start, without the minutes that a longer row sums up."""
    if span == MINUTE:
        yield from rows
        return
    minutes, covered = [], set()
    for row in rows:
        if row[0] == span:
            covered.add(int(row[1].timestamp()))
            yield row
        else:
            minutes.append(row)
    for row in minutes:
        if int(row[1].timestamp()) // span * span not in covered:
            yield row


Key = tuple[str, str, str]


def _summed(
    using: str, since: datetime, until: datetime | None, choice: Q
) -> Iterator[tuple[Key, list[int]]]:
    length = ((until or timezone.now()) - since).total_seconds()
    span = MINUTE if length <= 2 * HOUR else TEN_MINUTES if length <= 48 * HOUR else HOUR
    rows = _rows(using, span, floor(since, span), until).filter(choice).order_by()
    grouped = rows.values_list("span", "start", "queue", "type", "action").annotate(
        *(Sum(name) for name in COUNTS)
    )
    for _, _, queue, type_, action, *numbers in _uncovered(grouped, span):
        yield (queue, type_, action), [int(number) for number in numbers]


def _choice(queues: Collection[str] | None, names: Collection[str] | None) -> Q:
    """The rows to load: those asked for, and those that say that somebody was there."""
    chosen = Q() if queues is None else Q(queue__in=list(queues))
    if names is not None:
        pairs = [split_name(name) for name in names]
        chosen &= Q(type__in={type_ for type_, _ in pairs}, action__in={a for _, a in pairs})
    elif queues is None:
        return Q(queue="")
    else:
        chosen &= Q(type="")
    return chosen | Q(queue="")


def _selected(
    queues: Collection[str] | None, names: Collection[str] | None
) -> Callable[[str, str, str], bool]:
    """Whether a loaded row is one of those asked for."""
    if names is not None:
        pairs = {split_name(name) for name in names}
        return lambda queue, type_, action: (type_, action) in pairs
    if queues is not None:
        return lambda queue, type_, action: bool(queue)
    return lambda queue, type_, action: True
