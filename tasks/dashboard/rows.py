"""Rows of the list of tasks: everything they show, asked once for all of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks.dashboard.display import attempts_text, state_html, when_html
from tasks.dashboard.page import page_url
from tasks.dashboard.records import ShownRecord, shown_records
from tasks.dashboard.shown_buttons import ShownButton, shown_buttons
from tasks.dashboard.shown_why import ShownWhy, shown_whys
from tasks.models import Task
from tasks.redact import redact_text

if TYPE_CHECKING:
    from tasks.dashboard.viewer import Viewer

_HEAVY = ("data", "result", "context", "progress_value")
#: A reason to wait that the state and its time do not tell.
_TELLING = ("waiting", "paused", "unknown_name", "no_worker")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One task in a list. ``is_gone``: it no longer fits what the list shows."""

    task: Task
    url: str
    record: ShownRecord | None
    state: SafeString
    when: SafeString
    attempts: str
    why: str | SafeString
    failed: bool
    buttons: Sequence[ShownButton] = field(default_factory=list)
    is_gone: bool = False

    @property
    def id(self) -> int:
        """The id of its task."""
        return self.task.pk

    @property
    def name(self) -> str:
        """The task's name where the title does not say it."""
        return self.task.name if self.task.title != self.task.name else ""

    @property
    def ticked(self) -> str:
        """What its tick box sends: which task, and what was seen of it."""
        return f"{self.task.pk}:{self.buttons[0].version if self.buttons else ''}"

    @property
    def tick_label(self) -> str:
        """What the tick box is called."""
        return _("Tick %(task)s") % {"task": f"{self.task.title} #{self.task.pk}"}


def rows_of(viewer: Viewer, ids: Collection[int], *, gone: Collection[int] = ()) -> list[Row]:
    """A row for each of ``ids`` that this person may see, newest first; ``gone``: fit no longer."""
    if not ids:
        return []
    found = viewer.tasks.filter(pk__in=ids).order_by().defer(*_HEAVY)
    tasks = sorted(found, key=lambda task: -task.pk)
    records = shown_records(viewer, tasks)
    buttons = shown_buttons(viewer, tasks)
    whys = shown_whys(viewer, tasks)
    return [
        Row(
            task=task,
            url=page_url(viewer, "change", task_id=task.pk),
            record=records.get(task.pk),
            state=state_html(task),
            when=when_html(task),
            attempts=attempts_text(task) if task.attempts else "",
            why=_why(task, whys.get(task.pk)),
            failed=task.shown_state in ("failed", "retrying"),
            buttons=buttons.get(task.pk, []),
            is_gone=task.pk in gone,
        )
        for task in tasks
    ]


def _why(task: Task, why: ShownWhy | None) -> str | SafeString:
    reason = redact_text(task.reason)
    if why is None or why.kind not in _TELLING:
        return reason
    return format_html("{} {}", why.sentence, reason) if reason else why.sentence
