"""The list of tasks: a search kept in the address, newest first, page by page by key."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _

from tasks.dashboard.buttons import FOR_MANY
from tasks.dashboard.counting import Count, count
from tasks.dashboard.display import exact, time_html
from tasks.dashboard.ids import read_id
from tasks.dashboard.keyset import ends, id_at
from tasks.dashboard.matching import Match, matching
from tasks.dashboard.page import Page, page_url
from tasks.dashboard.quick import filters, query_of
from tasks.dashboard.rows import Row, rows_of
from tasks.dashboard.shown_buttons import selected_buttons
from tasks.dashboard.spans import moment
from tasks.dashboard.viewer import RIGHTS
from tasks.dashboard.window import Found, read
from tasks.models import Task

#: Up to here the list says exactly how many match.
COUNTED = 1000
#: Of the searches that may have been meant so many are offered.
MOST_INSTEAD = 5


@dataclass(frozen=True)
class Everything:
    """An action on all tasks that match: the address of its preview."""

    label: str
    url: str


class ListPage(Page):
    """Tasks, newest first."""

    name = "changelist"
    path = ""
    template = "tasks/dashboard/list.html"
    parts = {
        "af-count": "tasks/dashboard/list/count.html",
        "af-rows": "tasks/dashboard/list/rows.html",
        "af-none": "tasks/dashboard/list/none.html",
        "af-pages": "tasks/dashboard/list/pages.html",
    }
    numbers = frozenset({"af-count"})
    rows_part = "af-rows"
    row_template = "tasks/dashboard/list/row.html"
    tab = "tasks"

    @property
    def title(self) -> str:
        return _("Tasks")

    @cached_property
    def match(self) -> Match:
        """What the search in the address means."""
        return matching(self.viewer, self.query.get("q", ""))

    @cached_property
    def text(self) -> str:
        """The search, as typed where something in it is wrong."""
        return self.query.get("q", "").strip() if self.match.errors else self.match.text

    @property
    def before(self) -> int | None:
        """The id below which the page begins."""
        return read_id(self.query.get("before", ""))

    @property
    def after(self) -> int | None:
        """The id above which the page lies."""
        return read_id(self.query.get("after", ""))

    def elsewhere(self) -> str:
        """*Jump to time* leads to an address that stays what it is."""
        wanted = moment(self.query.get("at", ""))
        known = ends() if wanted else None
        if wanted is None or known is None:
            return ""
        return self.url() + query_of(self.text, before=id_at(wanted, known))

    def queues(self) -> Collection[str] | None:
        return self.match.queues

    def context(self) -> dict[str, Any]:
        found = read(self.match, before=self.before, after=self.after)
        is_first = self.before is None and self.after is None
        rows = rows_of(self.viewer, found.ids)
        return {
            "match": self.match,
            "text": self.text,
            "instead": [(one, query_of(one)) for one in self.match.instead[:MOST_INSTEAD]],
            "found": found,
            "rows": rows,
            "count": self._count(found, is_first),
            "is_first": is_first,
            "is_empty": not found.ids and is_first and not self.text,
            # The row at which a search stopped may not be theirs, so neither is its time.
            "reached": "" if self.viewer.is_scoped else _time_of(found.reached),
            "older": query_of(self.text, before=found.older) if found.older else "",
            "newer": self._newer(found, is_first),
            "newest": query_of(self.text),
            "filters": filters(self.text),
            "jump_zone": format_html(
                "<span data-af-zone>{}</span>", timezone.get_current_timezone_name()
            ),
            "buttons": selected_buttons(self.viewer, [row.task for row in rows]),
            "everything": self._everything(),
            "export": self._export(),
        }

    def left_rows(self, ids: Collection[int], context: Mapping[str, Any]) -> Sequence[Row]:
        # Others may only have moved on to the next page.
        fitting = self.match.queryset.filter(pk__in=ids).values_list("pk", flat=True)
        return rows_of(self.viewer, ids, gone=set(ids) - self.match.kept_ids(fitting))

    def note(self, context: Mapping[str, Any]) -> str:
        counted = context["count"]
        if self.match.states != frozenset({"failed"}) or not counted or not counted.number:
            return ""
        return _("%(count)s failed") % {"count": counted}

    def _count(self, found: Found, is_first: bool) -> Count | None:
        """How many match in all, where that costs next to nothing."""
        if self.match.errors:
            return None
        if found.total is not None:
            return Count(found.total)
        if is_first and found.older is None and found.reached is None and not found.gave_up:
            return Count(len(found.ids))
        if self.match.meanings and self.match.is_in_order:
            return count(self.match, COUNTED)
        return None

    def _newer(self, found: Found, is_first: bool) -> str:
        if is_first or found.is_newest:
            return ""
        if found.upwards and found.reached:
            return query_of(self.text, after=found.reached)
        if found.ids:
            return query_of(self.text, after=found.ids[0])
        return query_of(self.text, after=self.before - 1) if self.before else query_of(self.text)

    def _everything(self) -> list[Everything]:
        match = self.match
        if not match.terms or match.errors or not self.viewer.has("bulk_task"):
            return []
        states = match.states
        start = page_url(self.viewer, "bulk_new")
        return [
            Everything(f"{one.label}…", start + query_of(match.text, action=one.name))
            for one in FOR_MANY
            if self.viewer.has(RIGHTS[one.name]) and (states is None or states & set(one.states))
        ]

    def _export(self) -> str:
        if self.match.errors or not self.viewer.has("export_task"):
            return ""
        return page_url(self.viewer, "export") + query_of(self.text)


def _time_of(reached: int | None) -> str:
    """When the tasks around an id were created, as an element."""
    if reached is None:
        return ""
    rows = Task.objects.filter(pk__gte=reached).order_by("pk")
    created = rows.values_list("created_at", flat=True).first()
    return time_html(created, exact(created)) if created else ""
