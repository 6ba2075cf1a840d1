"""Incidents as lists show them: what failed, how often, since when, who looks after it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from tasks import incidents
from tasks.dashboard import probes
from tasks.dashboard.display import exact, time_html
from tasks.dashboard.numbers import more_than, number
from tasks.dashboard.page import page_url
from tasks.dashboard.viewer import Viewer
from tasks.handlers import registry
from tasks.models import Incident, Task
from tasks.redact import redact_text
from tasks.text import one_line

HOURS_SHOWN = 48
#: Of so many incidents a viewer who sees a part is shown those of which they may know.
SIFTED = 200
#: Failed tasks of one incident are counted up to here.
MOST_FAILED = 10_000
_LONGEST_MESSAGE = 300


@dataclass(frozen=True)
class Spark:
    """Failures an hour as bars of an SVG; ``text`` says the same."""

    path: str
    width: int
    text: str

    height = 24


class Described:
    """What is said of an incident wherever it stands."""

    incident: Incident

    @property
    def title(self) -> str:
        """The title of the handler of its tasks, else their name."""
        handler = registry.get(self.incident.name)
        return handler.title if handler and handler.title else self.incident.name

    @property
    def exception(self) -> str:
        """The name of the exception's class without its path."""
        return self.incident.exception.rpartition(".")[2]

    @property
    def muted(self) -> SafeString:
        """Until when nobody is told of it."""
        until = self.incident.muted_until
        return time_html(until, exact(until)) if until else time_html(None)


@dataclass
class ShownIncident(Described):
    """One incident. ``ever``, ``spark`` and the times are over all tasks: not for a scoped viewer,
    who gets what is true of the tasks they see.
    """

    incident: Incident
    url: str
    failed: int
    message: str
    newest: Task | None = None
    spark: Spark | None = None
    ever: str = ""

    @property
    def last(self) -> SafeString:
        """When a task failed this way last."""
        return time_html(self.newest.finished_at if self.newest else self.incident.last_seen_at)

    @property
    def first(self) -> SafeString | str:
        """When a task failed this way for the first time."""
        return "" if self.newest else time_html(self.incident.first_seen_at)

    @property
    def failed_text(self) -> str:
        """How many are failed now."""
        return more_than(self.failed, MOST_FAILED)


def shown_incidents(viewer: Viewer, found: Iterable[Incident]) -> list[ShownIncident]:
    """The incidents of which the viewer may know, with their figures; four queries at most.

    ``found`` is sliced. Left out are incidents none of whose tasks is visible.
    """
    rows = list(found)
    failed = probes.counts(
        [incidents.failed_tasks(row, viewer.tasks) for row in rows],
        MOST_FAILED,
    )
    if viewer.is_scoped:
        return _visible(viewer, rows, failed)
    since = timezone.now() - timedelta(hours=HOURS_SHOWN - 1)
    hours = incidents.hours(viewer.tasks.db, rows, since=since, until=timezone.now())
    return [
        ShownIncident(
            incident=row,
            url=incident_url(viewer, row),
            failed=count,
            message=message_of(row.message),
            spark=spark(hours.get(row.pk, [])),
            ever=number(row.failures),
        )
        for row, count in zip(rows, failed, strict=True)
    ]


def incident_url(viewer: Viewer, incident: Incident) -> str:
    """The address of its page."""
    return page_url(viewer, "incident", incident_id=incident.pk)


def message_of(text: str) -> str:
    """What went wrong in one line, redacted."""
    return one_line(redact_text(text), _LONGEST_MESSAGE)


def newest_visible(viewer: Viewer, rows: Sequence[Incident]) -> list[Task | None]:
    """The newest task of each that the viewer may see: a failed one, else the newest ever."""
    failed = probes.ids([incidents.failed_tasks(row, viewer.tasks)[:1] for row in rows])
    keys = [ids[0] if ids else row.newest_task_id for ids, row in zip(failed, rows, strict=True)]
    tasks = viewer.tasks.defer("data", "result").in_bulk([key for key in keys if key])
    return [tasks.get(key) if key else None for key in keys]


def spark(hours: Sequence[int], bar: int = 2) -> Spark | None:
    """``hours`` as bars, the newest on the right; None when nothing failed in them."""
    most = max(hours, default=0)
    if not most:
        return None
    bars = [
        f"M{index * bar} {Spark.height}v-{max(2, round(count * Spark.height / most))}"
        f"h{max(1, bar - 1) if bar > 2 else bar}V{Spark.height}z"
        for index, count in enumerate(hours)
        if count
    ]
    return Spark("".join(bars), bar * len(hours), _spark_text(hours, most))


def _spark_text(hours: Sequence[int], most: int) -> str:
    values = {"most": number(most), "days": len(hours) // 24, "total": number(sum(hours))}
    text = ngettext(
        "%(total)s failure in the last %(days)d days, at most %(most)s in one hour",
        "%(total)s failures in the last %(days)d days, at most %(most)s in one hour",
        sum(hours),
    )
    return text % values


def _visible(viewer: Viewer, rows: list[Incident], failed: list[int]) -> list[ShownIncident]:
    return [
        ShownIncident(
            incident=row,
            url=incident_url(viewer, row),
            failed=count,
            message=message_of(newest.reason),
            newest=newest,
        )
        for row, count, newest in zip(rows, failed, newest_visible(viewer, rows), strict=True)
        if newest is not None
    ]
