"""Who did what, when and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from tasks.dashboard.buttons import done_word
from tasks.dashboard.display import time_html
from tasks.dashboard.entries import Change, changes
from tasks.dashboard.events import Found, Wanted, read
from tasks.dashboard.grammar import quoted
from tasks.dashboard.ids import read_id
from tasks.dashboard.page import Page, list_url, page_url
from tasks.dashboard.pages.bulk import asked
from tasks.dashboard.records import ShownRecord, shown_records
from tasks.dashboard.shown_bulk import ShownBulk
from tasks.dashboard.typed import typed
from tasks.models import BulkAction, TaskEvent
from tasks.redact import redact_text

if TYPE_CHECKING:
    from tasks.dashboard.display import Words

#: What the filter offers: words, and the actions of events behind them.
ACTIONS: dict[str, tuple[Words, tuple[str, ...]]] = {
    "retry": (gettext_lazy("retried"), ("retry", "change_and_retry")),
    "run_again": (gettext_lazy("ran again"), ("run_again",)),
    "run_now": (gettext_lazy("made due"), ("run_now",)),
    "cancel": (pgettext_lazy("after a name", "cancelled"), ("cancel",)),
    "complete": (gettext_lazy("marked as done"), ("complete",)),
    "change": (gettext_lazy("changed data"), ("change_data", "change_and_retry", "restore")),
    "queue": (gettext_lazy("paused or resumed a queue"), ("pause", "resume")),
    "incident": (
        gettext_lazy("dealt with an incident"),
        tuple(
            f"incident_{did}" for did in ("take", "release", "mute", "unmute", "resolve", "note")
        ),
    ),
    "bulk": (
        gettext_lazy("acted in bulk"),
        ("bulk_start", "bulk_pause", "bulk_resume", "bulk_cancel"),
    ),
}
_OTHER_WORDS: dict[str, Words] = {
    "change_data": gettext_lazy("changed the data of"),
    "change_and_retry": gettext_lazy("changed and retried"),
    "restore": gettext_lazy("restored the old data of"),
    "bulk_start": pgettext_lazy("after a name", "started"),
    "bulk_pause": pgettext_lazy("after a name", "paused"),
    "bulk_resume": gettext_lazy("resumed"),
    "bulk_cancel": gettext_lazy("cancelled the rest of"),
    "incident_take": gettext_lazy("took"),
    "incident_release": gettext_lazy("gave back"),
    "incident_mute": pgettext_lazy("after a name", "muted"),
    "incident_unmute": gettext_lazy("unmuted"),
    "incident_resolve": pgettext_lazy("after a name", "resolved"),
    "incident_note": gettext_lazy("wrote a note about"),
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line: who did what to whom."""

    id: int
    at: SafeString
    who: str
    did: str
    subject: str = ""
    url: str = ""
    record: ShownRecord | None = None
    reason: str = ""
    changes: Sequence[Change] = ()
    bulk: ShownBulk | None = None


class ActivityPage(Page):
    """What staff did, newest first. Of a bulk action one line, unless its tasks are asked for."""

    name = "activity"
    path = "activity/"
    template = "tasks/dashboard/activity.html"
    parts = {"af-activity": "tasks/dashboard/parts/activity.html"}
    tab = "activity"

    @property
    def title(self) -> str:
        if self.bulk:
            return _("Each task of: %(name)s") % {"name": ShownBulk(self.viewer, self.bulk).name}
        return _("Activity")

    @cached_property
    def bulk(self) -> BulkAction | None:
        """The bulk action whose tasks are asked for. Raises Http404."""
        number = self._number("bulk")
        return asked(self.viewer, number) if number else None

    @cached_property
    def wanted(self) -> Wanted:
        """What the reader looks for."""
        return Wanted(
            who=typed(self.query, "who"),
            actions=ACTIONS.get(self.query.get("action", ""), ("", ()))[1],
            queue=typed(self.query, "queue"),
            bulk=self.bulk,
        )

    def context(self) -> dict[str, Any]:
        for known in ("bulk", "wanted"):
            self.__dict__.pop(known, None)
        before, after = self._number("before"), self._number("after")
        found = read(self.viewer, self.wanted, before=before, after=after)
        if after and not found.has_more:
            # Nothing more is newer: this is the first page, filled up.
            before = after = None
            found = read(self.viewer, self.wanted)
        records = shown_records(self.viewer, found.tasks.values()) if found.events else {}
        return {
            "entries": [self._entry(event, found, records) for event in found.events],
            "older_url": self._older(found, after),
            "newer_url": self._newer(found, before, after),
            "reached": time_html(found.reached_at) if found.reached_at else "",
            "first_url": self._url(),
            "is_first": not (before or after),
            "is_all": self.wanted.is_all,
            "actions": [(key, words) for key, (words, _actions) in ACTIONS.items()],
            "filter": {name: self.query.get(name, "") for name in ("who", "action", "queue")},
            "bulk": ShownBulk(self.viewer, self.bulk) if self.bulk else None,
            "all_url": page_url(self.viewer, "activity"),
        }

    def _number(self, name: str) -> int | None:
        return read_id(self.query.get(name, "")) or None

    def _url(self, **place: int) -> str:
        kept = {name: self.query.get(name, "") for name in ("who", "action", "queue", "bulk")}
        query = urlencode({**{name: value for name, value in kept.items() if value}, **place})
        return f"{page_url(self.viewer, 'activity')}?{query}".rstrip("?")

    def _older(self, found: Found, after: int | None) -> str:
        last = found.events[-1].pk if found.events else after
        if after:
            return self._url(before=last) if last else ""
        if not found.has_more:
            return ""
        edge = found.reached or last
        return self._url(before=edge) if edge else ""

    def _newer(self, found: Found, before: int | None, after: int | None) -> str:
        if not (before or after):
            return ""
        first = found.events[0].pk if found.events else before
        return self._url(after=first) if first else ""

    def _entry(self, event: TaskEvent, found: Found, records: dict[int, ShownRecord]) -> Entry:
        return Entry(
            id=event.pk,
            at=time_html(event.at),
            who=event.who or _("A program"),
            did=str(_OTHER_WORDS.get(event.action) or done_word(event.action)),
            reason=redact_text(event.reason),
            changes=changes(event.difference) if self.viewer.sees_data else (),
            bulk=self._begun(event),
            **self._subject(event, found, records),
        )

    def _begun(self, event: TaskEvent) -> ShownBulk | None:
        """How far the bulk action is that began with ``event``."""
        begun = event.about if event.action == "bulk_start" else None
        return ShownBulk(self.viewer, begun) if begun else None

    def _subject(
        self, event: TaskEvent, found: Found, records: dict[int, ShownRecord]
    ) -> dict[str, Any]:
        if event.task_id:
            task = found.tasks[event.task_id]
            return {
                "subject": f"{task.title} #{task.pk}",
                "url": page_url(self.viewer, "change", task_id=task.pk),
                "record": records.get(task.pk),
            }
        if event.about:
            shown = ShownBulk(self.viewer, event.about)
            return {"subject": shown.name, "url": shown.url}
        if event.queue:
            url = list_url(self.viewer, f"queue:{quoted(event.queue)}")
            return {"subject": event.queue, "url": url}
        if event.incident:
            name = _("incident #%(number)s") % {"number": event.incident.pk}
            return {
                "subject": f"{name} ({event.incident.name})",
                "url": page_url(self.viewer, "incident", incident_id=event.incident.pk),
            }
        # Long ago: it was over, and is not there any more.
        return {"subject": _("incident")} if event.action.startswith("incident_") else {}
