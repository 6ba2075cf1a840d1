"""Keeping roll-ups small: minutes are summed up into ten minutes and those into hours.

Sums take the place of what was stored, so that doing it twice, or two processes at once, adds
nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from tasks.conf import aftersave_settings
from tasks.figures import COUNTS, MINUTE, SPANS, TEN_MINUTES, Counts, Key, floor
from tasks.histogram import Histogram
from tasks.models import Figure, Task
from tasks.models.upsert import upsert

#: Processes write every five seconds; who is later than this is added when the next span is summed.
LATE = timedelta(seconds=30)
WINDOWS_AT_ONCE = 50
_DELETE_AT_ONCE = 2000
#: A process of a host with a queue for each of a thousand customers writes 20,000 in ten minutes.
_DELETES = 20
_UNIQUE = ("span", "start", "process", "queue", "type", "action")
_KEEP = {MINUTE: timedelta(days=2), TEN_MINUTES: timedelta(days=8)}
_MARGIN = timedelta(hours=1)


class Tallied:
    """What a row of the roll-ups holds, still counting."""

    __slots__ = ("counts", "run", "wait")

    def __init__(self) -> None:
        self.counts = Counts()
        self.wait = Histogram()
        self.run = Histogram()

    def merge(self, other: Tallied) -> None:
        """Add what ``other`` counted."""
        self.counts.add(*(getattr(other.counts, name) for name in COUNTS))
        self.wait.merge(other.wait.counts)
        self.run.merge(other.run.counts)


def with_sums(names: Iterable[tuple[Key, Tallied]]) -> dict[Key, Tallied]:
    """Single names by (queue, type, action), and beside them the sums of queues and of all."""
    found: dict[Key, Tallied] = {("", "", ""): Tallied()}
    for (queue, type_, action), one in names:
        for key in ((queue, type_, action), (queue, "", ""), ("", "", "")):
            found.setdefault(key, Tallied()).merge(one)
    return found


def write(
    using: str, *, start: datetime, span: int, process: int, rows: dict[Key, Tallied]
) -> None:
    """Store ``rows`` in the place of what stands there; one statement, safe to repeat."""
    figures = _figures(start, span, process, rows)
    upsert(using, figures, unique=_UNIQUE, replace=(*COUNTS, "wait", "run"))


def count_lost(using: str, *, failed: Iterable[Task], retried: Iterable[Task]) -> None:
    """Count tasks taken from a lost worker, in the caller's transaction: it cannot do it itself."""
    names: dict[Key, Tallied] = {}
    for column, tasks in (("failed", failed), ("retried", retried)):
        for task in tasks:
            one = names.setdefault((task.queue, task.type, task.action), Tallied())
            setattr(one.counts, column, getattr(one.counts, column) + 1)
    if names:
        start = floor(timezone.now(), MINUTE)
        figures = _figures(start, MINUTE, 0, with_sums(names.items()))
        upsert(using, figures, unique=_UNIQUE, add=COUNTS)


def _figures(start: datetime, span: int, process: int, rows: dict[Key, Tallied]) -> list[Figure]:
    return [
        Figure(
            start=start,
            span=span,
            process=process,
            queue=queue,
            type=type_,
            action=action,
            wait=one.wait.stored(),
            run=one.run.stored(),
            **{name: getattr(one.counts, name) for name in COUNTS},
        )
        for (queue, type_, action), one in sorted(rows.items(), key=lambda item: item[0])
    ]


def sum_up(using: str, now: datetime | None = None) -> int:
    """Sum up the spans that are over, at most 50 of each length; returns how many."""
    now = now or timezone.now()
    done = 0
    for source, span in pairwise(SPANS):
        for start in _windows(using, source, span, now):
            _sum_one(using, source, span, start)
            done += 1
    return done


def _sum_one(using: str, source: int, span: int, start: datetime) -> None:
    with transaction.atomic(using=using):
        _lock(using, source, span, start)
        rows = _sums(using, source, span, start)
        write(using, start=start, span=span, process=0, rows=rows)


def sum_again(using: str, minute: datetime) -> None:
    """Add what was written of a past ``minute`` where others were summed up or passed over since.

    Not of one whose neighbours may be pruned: the sum would become less.
    """
    for source, span in pairwise(SPANS):
        start = floor(minute, span)
        last = _last(using, span)
        if last is None or last < start or start < timezone.now() - _KEEP[source] + _MARGIN:
            return
        _sum_one(using, source, span, start)


def _windows(using: str, source: int, span: int, now: datetime) -> Iterator[datetime]:
    """Spans to sum up, oldest first; before the first new one the last again, for latecomers."""
    figures = Figure.objects.using(using)
    last = _last(using, span)
    length = timedelta(seconds=span)
    after = None if last is None else last + length
    for number in range(WINDOWS_AT_ONCE):
        rows = figures.filter(span=source)
        rows = rows if after is None else rows.filter(start__gte=after)
        first = rows.order_by("start").values_list("start", flat=True).first()
        if first is None or floor(first, span) + length + LATE > now:
            return
        if number == 0 and last is not None:
            yield last
        yield floor(first, span)
        after = floor(first, span) + length


def _last(using: str, span: int) -> datetime | None:
    """When the last span that was summed up begins."""
    rows = Figure.objects.using(using).filter(span=span)
    last: datetime | None = rows.aggregate(at=Max("start"))["at"]
    return last


def _lock(using: str, source: int, span: int, start: datetime) -> None:
    """Wait for others who sum up the same, or they might store less after us than we found.

    Whoever counted in the span has a row there that sums up everything.
    """
    rows = Figure.objects.using(using).filter(span=source, queue="", type="", action="")
    within = rows.filter(start__gte=start, start__lt=start + timedelta(seconds=span))
    list(within.order_by("start", "process").select_for_update().values_list("pk"))


def _sums(using: str, source: int, span: int, start: datetime) -> dict[Key, Tallied]:
    end = start + timedelta(seconds=span)
    rows = Figure.objects.using(using).filter(span=source, start__gte=start, start__lt=end)
    found: dict[Key, Tallied] = {}
    columns = ("queue", "type", "action", *COUNTS, "wait", "run")
    for queue, type_, action, *counts, wait, run in rows.values_list(*columns):
        one = found.setdefault((queue, type_, action), Tallied())
        one.counts.add(*counts)
        one.wait.merge(wait)
        one.run.merge(run)
    return found


def prune_figures(using: str, now: datetime | None = None) -> int:
    """Delete up to 40,000 rows of each length past their time; returns how many went.

    Minutes and ten minutes stay at least until they are summed up.
    """
    now = now or timezone.now()
    deleted = 0
    for span, longer in zip(SPANS, (*SPANS[1:], None), strict=True):
        keep = _KEEP.get(span, aftersave_settings.KEEP_FIGURES)
        if keep is None:
            continue
        rows = Figure.objects.using(using).filter(span=span, start__lt=now - keep)
        if longer is not None:
            frontier = _last(using, longer)
            if frontier is None:
                continue
            rows = rows.filter(start__lt=frontier)
        deleted += _delete(using, rows)
    return deleted


def _delete(using: str, rows: QuerySet[Figure]) -> int:
    deleted = 0
    for _ in range(_DELETES):
        ids: list[Any] = list(rows.order_by("start").values_list("pk", flat=True)[:_DELETE_AT_ONCE])
        deleted += Figure.objects.using(using).filter(pk__in=ids).delete()[0]
        if len(ids) < _DELETE_AT_ONCE:
            break
    return deleted
