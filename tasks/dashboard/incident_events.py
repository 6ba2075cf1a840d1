"""What staff did about an incident, for its page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks.dashboard.display import time_html
from tasks.dashboard.page import page_url
from tasks.dashboard.shown_bulk import may_see
from tasks.dashboard.viewer import Viewer
from tasks.models import Incident, TaskEvent
from tasks.redact import redact_text

EVENTS_SHOWN = 50


@dataclass(frozen=True)
class ShownEvent:
    """What somebody did to the incident."""

    who: str
    did: str
    reason: str
    at: SafeString
    subject: str = ""
    url: str = ""


def shown_events(viewer: Viewer, incident: Incident) -> list[ShownEvent]:
    """What was done about it, newest first, as far as the viewer may know of it."""
    rows = TaskEvent.objects.using(incident._state.db).filter(incident=incident)
    rows = rows.order_by("-id").select_related("about").defer("before", "difference")
    newest = list(rows[:EVENTS_SHOWN])
    if viewer.is_scoped:
        ids = [event.task_id for event in newest if event.task_id]
        visible = set(viewer.tasks.filter(pk__in=ids).values_list("pk", flat=True))
        newest = [event for event in newest if _may_know(viewer, event, visible)]
    return [_shown(viewer, event) for event in newest]


def _may_know(viewer: Viewer, event: TaskEvent, visible: Collection[int]) -> bool:
    if event.task_id:
        return event.task_id in visible
    return event.about is None or may_see(viewer, event.about)


def _shown(viewer: Viewer, event: TaskEvent) -> ShownEvent:
    return ShownEvent(
        who=event.who or _("A program"),
        did=_did(event.action),
        reason=redact_text(event.reason),
        at=time_html(event.at),
        **_subject(viewer, event),
    )


def _subject(viewer: Viewer, event: TaskEvent) -> dict[str, str]:
    if event.task_id:
        url = page_url(viewer, "change", task_id=event.task_id)
        return {"subject": f"#{event.task_id}", "url": url}
    if event.about_id:
        url = page_url(viewer, "bulk", bulk_id=event.about_id)
        return {"subject": f"#{event.about_id}", "url": url}
    return {}


def _did(action: str) -> str:
    """What somebody did, after their name."""
    words = {
        "incident_take": _("took it"),
        "incident_release": _("gave it back"),
        "incident_mute": _("muted it"),
        "incident_unmute": _("ended the mute"),
        "incident_resolve": _("resolved it"),
        "incident_note": _("wrote a note"),
        "retry": _("retried a task"),
        "bulk_start": _("started a bulk action"),
    }
    return words.get(action, action)
