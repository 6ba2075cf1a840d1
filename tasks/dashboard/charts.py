"""The charts of the overview: throughput, failures and waiting, as numbers, text and table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext

from tasks import figures
from tasks.dashboard.display import exact, time_html
from tasks.dashboard.numbers import number, rate, seconds
from tasks.figures import Point
from tasks.histogram import Histogram

if TYPE_CHECKING:
    from tasks.dashboard.display import Words


@dataclass(frozen=True)
class Span:
    """How far back the charts go. ``step``: seconds that one point stands for."""

    name: str
    label: Words
    words: Words
    length: timedelta
    step: int


#: By the word in the address.
SPANS = {
    span.name: span
    for span in (
        Span(
            "hour", gettext_lazy("Hour"), gettext_lazy("in the last hour"), timedelta(hours=1), 60
        ),
        Span("day", gettext_lazy("Day"), gettext_lazy("in the last day"), timedelta(days=1), 600),
        Span("week", gettext_lazy("Week"), gettext_lazy("in the last week"), timedelta(7), 3600),
    )
}


@dataclass(frozen=True)
class Axis:
    """The beginnings of the points, one for all charts; the last may not be over at ``until``."""

    moments: list[datetime]
    until: datetime
    step: int

    def a_minute(self, points: Sequence[Point | None], name: str) -> list[float | None]:
        """How many of one kind of Counts there were a minute."""
        return _values(points, lambda point: self._rate(point, getattr(point.counts, name)))

    def _rate(self, point: Point, count: int) -> float:
        return count * 60 / min(self.step, (self.until - point.start).total_seconds())

    @cached_property
    def shown(self) -> list[SafeString]:
        """For the tables."""
        return [time_html(moment, exact(moment)) for moment in self.moments]


@dataclass(frozen=True)
class Line:
    """One line of a chart: a value for each point, None where nobody reported."""

    label: str
    color: str
    values: list[float | None]
    dash: tuple[int, ...] = ()
    fill: bool = False


@dataclass(frozen=True)
class Chart:
    """What a chart says, in three ways: drawn, in words, and as a table."""

    name: str
    title: str
    unit: str  # "count" or "seconds"
    axis: Axis
    lines: list[Line]
    summary: str

    @property
    def data(self) -> str:
        """What charts.js draws, as JSON."""
        return json.dumps(
            {
                "unit": self.unit,
                "time": _("Time"),
                "x": [int(moment.timestamp()) for moment in self.axis.moments],
                "series": [
                    {
                        "label": line.label,
                        "color": line.color,
                        "dash": line.dash,
                        "fill": line.fill,
                        "values": line.values,
                    }
                    for line in self.lines
                ],
            },
            separators=(",", ":"),
        )

    @property
    def rows(self) -> list[tuple[SafeString, list[str]]]:
        """The table, newest first; a dash where nobody reported."""
        shown = seconds if self.unit == "seconds" else rate
        values = zip(*(line.values for line in self.lines), strict=True)
        rows = [
            (time, [shown(value) for value in row])
            for time, row in zip(self.axis.shown, values, strict=True)
        ]
        return rows[::-1]


def charts(using: str, span: Span, now: datetime | None = None) -> dict[str, Chart]:
    """The three charts by name; one query. Minutes nobody reported are None, not nought."""
    # The last minute is not over: its line would always fall.
    until = (now or timezone.now()).replace(second=0, microsecond=0)
    points = figures.series(using, since=until - span.length, until=until, step=span.step)
    first = figures.floor(until - span.length, span.step)
    axis = Axis(
        [first + timedelta(seconds=span.step * index) for index in range(len(points))],
        until,
        span.step,
    )
    made = (_throughput, _failures, _wait)
    return {chart.name: chart for chart in (make(span, axis, points) for make in made)}


def _values(
    points: Sequence[Point | None], value: Callable[[Point], float | None]
) -> list[float | None]:
    found = (None if point is None else value(point) for point in points)
    return [None if one is None else round(one, 4) for one in found]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _throughput(span: Span, axis: Axis, points: Sequence[Point | None]) -> Chart:
    completed = axis.a_minute(points, "completed")
    known = _known(completed)
    total = sum(point.counts.completed for point in points if point)
    said: dict[str, Any] = {
        "number": number(total),
        "span": span.words,
        "rate": rate(sum(known) / len(known) if known else None),
        "most": rate(max(known, default=None)),
    }
    text = ngettext(
        "%(number)s task completed %(span)s: %(rate)s a minute, at most %(most)s.",
        "%(number)s tasks completed %(span)s: %(rate)s a minute, at most %(most)s.",
        total,
    )
    if not total:
        text = _("No task was completed %(span)s.")
    return Chart(
        "throughput",
        _("Throughput, tasks a minute"),
        "count",
        axis,
        [Line(pgettext("state of a task", "completed"), "--af-c-completed", completed, fill=True)],
        _with_gaps(text % said, points, span),
    )


def _failures(span: Span, axis: Axis, points: Sequence[Point | None]) -> Chart:
    failed, retried = (axis.a_minute(points, name) for name in ("failed", "retried"))
    totals = [sum(getattr(p.counts, name) for p in points if p) for name in ("failed", "retried")]
    said = {"failed": number(totals[0]), "retried": number(totals[1]), "span": span.words}
    text = _("Given up %(span)s: %(failed)s. Tried again: %(retried)s.")
    return Chart(
        "failures",
        _("Failures, a minute"),
        "count",
        axis,
        [
            Line(_("given up"), "--af-c-failed", failed, fill=True),
            Line(_("tried again"), "--af-c-retrying", retried, dash=(6, 4)),
        ],
        _with_gaps(text % said, points, span),
    )


def _wait(span: Span, axis: Axis, points: Sequence[Point | None]) -> Chart:
    known = [point.wait for point in points if point]
    together = Histogram()
    for wait in known:
        together.merge(wait.counts)
    if together.count:
        said = {
            "half": seconds(together.p50),
            "most": seconds(together.p95),
            "span": span.words,
        }
        text = _("Half of the tasks started within %(half)s %(span)s, 95 %% within %(most)s.")
        summary = (text % said).replace(" %", "\N{NO-BREAK SPACE}%")
    else:
        summary = _("No task was started %(span)s.") % {"span": span.words}
    return Chart(
        "wait",
        _("Wait from due to start"),
        "seconds",
        axis,
        [
            Line(_("half (p50)"), "--af-c-due", _values(points, lambda p: p.wait.p50)),
            Line(_("95 % (p95)"), "--af-c-waiting", _values(points, lambda p: p.wait.p95), (6, 4)),
        ],
        _with_gaps(summary, points, span),
    )


def _with_gaps(summary: str, points: Sequence[Point | None], span: Span) -> str:
    missing = sum(point is None for point in points)
    if not missing:
        return summary
    silent = seconds(missing * span.step)
    return f"{summary} " + _("No worker reported for %(time)s of it.") % {"time": silent}
