"""What goes on now: figures, queues, workers, charts, and what needs somebody."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db import router
from django.utils import timezone
from django.utils.translation import gettext as _

from tasks import figures
from tasks.dashboard.charts import SPANS, Span, charts
from tasks.dashboard.fleet import MOST_WORKERS, fleet, running, serving, workers
from tasks.dashboard.incident_rows import SIFTED, shown_incidents
from tasks.dashboard.lane_rows import shown_lanes
from tasks.dashboard.lanes import MOST_QUEUES, Lane, lanes, unhandled
from tasks.dashboard.page import Page, list_url, page_url
from tasks.dashboard.tiles import failed_text, tiles
from tasks.figures import Counts
from tasks.models import Incident, Task
from tasks.serving import worker_command

#: Of the incidents that went on last those are shown of which most tasks are failed.
_NEWEST_INCIDENTS = 20
_TOP_INCIDENTS = 5
_PARTS = "tasks/dashboard/parts/"


class OverviewPage(Page):
    """The page that operations keep open; with ``?wall=1`` for a screen on the wall."""

    name = "overview"
    path = "overview/"
    template = "tasks/dashboard/overview.html"
    parts = {
        "af-figures": f"{_PARTS}figures.html",
        "af-alarms": f"{_PARTS}alarms.html",
        "af-facts-throughput": f"{_PARTS}chart_throughput.html",
        "af-facts-failures": f"{_PARTS}chart_failures.html",
        "af-facts-wait": f"{_PARTS}chart_wait.html",
        "af-top-incidents": f"{_PARTS}top_incidents.html",
        "af-lanes": f"{_PARTS}lanes.html",
        "af-fleet": f"{_PARTS}fleet.html",
    }
    numbers = frozenset({"af-figures", "af-lanes"})
    tab = "overview"

    @property
    def title(self) -> str:
        return _("Overview")

    @property
    def wall(self) -> bool:
        """Whether it hangs on a wall: big, and nothing to press."""
        return self.query.get("wall") == "1"

    @property
    def span(self) -> Span:
        """How far back the charts go."""
        return SPANS.get(self.query.get("span", ""), SPANS["hour"])

    def context(self) -> dict[str, Any]:
        hour = self._last_hour()
        return {
            "wall": self.wall,
            "span": self.span,
            "spans": [(span, self._with(span=span.name)) for span in SPANS.values()],
            "wall_url": self._with(wall="1"),
            "tiles": tiles(self.viewer, hour),
            "charts": self._charts(),
            **self._work(hour),
            **self._incidents(),
        }

    def note(self, context: Mapping[str, Any]) -> str:
        """What the tab's title begins with."""
        return failed_text(context["tiles"])

    def _with(self, **changed: str) -> str:
        query = self.query.copy()
        for name, value in changed.items():
            query[name] = value
        return f"?{query.urlencode()}"

    def _charts(self) -> dict[str, Any]:
        return {} if self.viewer.is_scoped else charts(self.viewer.tasks.db, self.span)

    def _last_hour(self) -> dict[str, Counts]:
        """What was done in each queue; nothing for who sees a part."""
        if self.viewer.is_scoped:
            return {}
        minute = timezone.now().replace(second=0, microsecond=0)
        return figures.by_queue(self.viewer.tasks.db, since=minute - timedelta(hours=1))

    def _work(self, hour: dict[str, Counts]) -> dict[str, Any]:
        if not self.viewer.has("view_queue"):
            return {}
        runs = running(self.viewer)
        known = workers()
        served = serving(known)
        found = lanes(self.viewer, served, runs)
        return {
            "lanes": shown_lanes(self.viewer, found, hour, wall=self.wall),
            "lanes_are_cut": len(found) == MOST_QUEUES,
            "fleet": fleet(self.viewer, known, runs),
            "workers_left": max(0, len(known) - MOST_WORKERS),
            "no_worker": not served.any_worker,
            "worker_command": worker_command(None, router.db_for_write(Task)),
            "deserted": [lane for lane in found if lane.is_deserted],
            "late": [lane for lane in found if lane.is_late and not lane.is_deserted],
            "unhandled": self._unhandled(found),
        }

    def _unhandled(self, found: list[Lane]) -> list[tuple[str, str]]:
        names = unhandled(found)
        # A worker may know what this process does not: another project's, or a remote one.
        performed = self._performed() if names else set()
        return [
            (name, list_url(self.viewer, f"name:{name} state:due"))
            for name in names
            if name not in performed
        ]

    def _performed(self) -> set[str]:
        """Names that some worker performed lately."""
        since = timezone.now() - timedelta(hours=1)
        return set(figures.by_name(self.viewer.tasks.db, since=since))

    def _incidents(self) -> dict[str, Any]:
        status = Incident.Status
        standing = Incident.objects.filter(status__in=[status.OPEN, status.TAKEN])
        most = SIFTED if self.viewer.is_scoped else _NEWEST_INCIDENTS
        newest = standing.order_by("-last_seen_at", "-id")[:most]
        shown = shown_incidents(self.viewer, newest)
        shown.sort(key=lambda one: one.failed, reverse=True)
        return {
            "incidents": shown[:_TOP_INCIDENTS],
            "incidents_url": page_url(self.viewer, "incidents"),
        }
