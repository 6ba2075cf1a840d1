"""Pause and Resume beside a queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks.dashboard.page import page_url
from tasks.dashboard.shown_buttons import ShownButton
from tasks.dashboard.viewer import Viewer
from tasks.models import Queue
from tasks.names import OWN

PAUSE_LABEL = gettext_lazy("Pause")
RESUME_LABEL = gettext_lazy("Resume")


def queue_buttons(
    viewer: Viewer, queues: Iterable[Queue], due: Mapping[str, str] | None = None
) -> dict[str, ShownButton]:
    """The button of each queue that this person may pause; ``due``: how many tasks are, as text."""
    if not viewer.has("pause_queue"):
        return {}
    return {
        str(queue.name): queue_button(viewer, queue, (due or {}).get(str(queue.name), ""))
        for queue in queues
        if queue.name != OWN
    }


def queue_button(viewer: Viewer, queue: Queue, due: str = "") -> ShownButton:
    """Pause or Resume, without asking for rights."""
    name = "resume" if queue.paused_at else "pause"
    return ShownButton(
        name=name,
        label=str(RESUME_LABEL if queue.paused_at else PAUSE_LABEL),
        url=page_url(viewer, f"queue_{name}", queue=queue.name),
        key=str(queue.name),
        asks="required" if name == "pause" else "",
        version=version(queue.paused_at),
        says=_says(due) if name == "pause" else "",
    )


def version(paused_at: datetime | None) -> str:
    """What a page shows of a queue, or a bulk action: since when it is paused, if it is."""
    return paused_at.isoformat() if paused_at else "open"


def _says(due: str) -> str:
    if not due:
        return _("Nothing of it is started until somebody resumes it. What runs now goes on.")
    text = _(
        "%(due)s of its tasks are due. None of them is started until somebody resumes the queue; "
        "what runs now goes on."
    )
    return text % {"due": due}
