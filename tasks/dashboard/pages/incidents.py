"""Incidents: what failed the same way is one line, with who looks after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Q, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks.dashboard.ids import read_id
from tasks.dashboard.incident_rows import SIFTED, shown_incidents
from tasks.dashboard.numbers import number
from tasks.dashboard.page import Page
from tasks.models import Incident

if TYPE_CHECKING:
    from tasks.dashboard.display import Words

SIZE = 25


@dataclass(frozen=True)
class Tab:
    """One state of incidents; ``count`` is empty where counting would count what is not seen."""

    name: str
    label: Words
    url: str
    count: str
    is_here: bool


_LABELS: dict[str, Words] = {
    Incident.Status.OPEN: gettext_lazy("Open"),
    Incident.Status.TAKEN: gettext_lazy("Taken"),
    Incident.Status.MUTED: gettext_lazy("Muted"),
    Incident.Status.RESOLVED: gettext_lazy("Resolved"),
}


class IncidentsPage(Page):
    """Incidents in one state, the newest failure first."""

    name = "incidents"
    path = "incidents/"
    template = "tasks/dashboard/incidents.html"
    parts = {
        "af-incident-tabs": "tasks/dashboard/parts/incident_tabs.html",
        "af-incidents": "tasks/dashboard/parts/incident_list.html",
    }
    numbers = frozenset({"af-incident-tabs"})
    tab = "incidents"

    @property
    def title(self) -> str:
        return _("Incidents")

    @property
    def status(self) -> str:
        """The state that the address asks for."""
        asked = self.query.get("status", "")
        return asked if asked in _LABELS else Incident.Status.OPEN

    def context(self) -> dict[str, Any]:
        rows = list(self._rows()[: self._size + 1])
        return {
            "status": self.status,
            "tabs": self._tabs(),
            "incidents": shown_incidents(self.viewer, rows[: self._size]),
            "older_url": self._older(rows),
            "is_first": "before" not in self.query,
        }

    @property
    def _size(self) -> int:
        return SIFTED if self.viewer.is_scoped else SIZE

    def _rows(self) -> QuerySet[Incident]:
        rows = Incident.objects.filter(status=self.status).order_by("-last_seen_at", "-id")
        key = read_id(self.query.get("before", ""))
        last = None if key is None else Incident.objects.filter(pk=key).first()
        if last is None:
            return rows
        at = last.last_seen_at
        return rows.filter(Q(last_seen_at__lt=at) | Q(last_seen_at=at, id__lt=last.pk))

    def _older(self, rows: list[Incident]) -> str:
        if len(rows) <= self._size:
            return ""
        return f"?status={self.status}&before={rows[self._size - 1].pk}"

    def _tabs(self) -> list[Tab]:
        counts = {} if self.viewer.is_scoped else self._counts()
        return [
            Tab(
                name=name,
                label=label,
                url=f"{self.url()}?status={name}",
                count=counts.get(name, ""),
                is_here=name == self.status,
            )
            for name, label in _LABELS.items()
        ]

    def _counts(self) -> dict[str, str]:
        rows = Incident.objects.order_by().values_list("status").annotate(Count("pk"))
        return dict.fromkeys(_LABELS, "0") | {status: number(count) for status, count in rows}
