"""How facts about a task look: states, times, JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from tasks.dashboard.numbers import number
from tasks.models import State, Task
from tasks.redact import LONGEST_SECRET, redact, redact_text

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    #: Text, perhaps translated when it is shown.
    Words = str | _StrPromise

LONGEST_TEXT = 100_000


@dataclass(frozen=True)
class ShownState:
    """The sign and the word for a state."""

    icon: str
    word: Words


#: By ``Task.shown_state``, in the order in which a task goes through them.
SHOWN_STATES = {
    "waiting": ShownState("⋯", gettext_lazy("waiting for others")),
    "later": ShownState("◷", pgettext_lazy("state of a task", "later")),
    "due": ShownState("●", pgettext_lazy("state of a task", "due")),
    "running": ShownState("▶", pgettext_lazy("state of a task", "running")),
    "retrying": ShownState("↻", pgettext_lazy("state of a task", "retrying")),
    "failed": ShownState("✕", pgettext_lazy("state of a task", "failed")),
    "completed": ShownState("✓", pgettext_lazy("state of a task", "completed")),
    "cancelled": ShownState("⊘", pgettext_lazy("state of a task", "cancelled")),
}


def state_word(task: Task) -> str:
    """The word staff read for the state."""
    return str(SHOWN_STATES[task.shown_state].word)


def state_html(task: Task) -> SafeString:
    """Icon and word of the state."""
    shown = SHOWN_STATES[task.shown_state]
    return format_html(
        '<span class="af-state af-{}"><span class="af-icon" aria-hidden="true">{}</span>{}</span>',
        task.shown_state,
        shown.icon,
        shown.word,
    )


def attempts_text(task: Task) -> str:
    """``2 of 5``."""
    return _("%(done)s of %(most)s") % {"done": task.attempts, "most": task.max_attempts}


def exact(moment: datetime) -> str:
    """Date, time and zone, for the viewer's time zone."""
    local = _local(moment)
    return f"{date_format(local, 'DATE_FORMAT')}, {local:%H:%M:%S} {local.tzname()}"


def relative(moment: datetime, now: datetime | None = None) -> str:
    """``4 s ago``, ``in 5 min``; beyond two days the date."""
    now = now or timezone.now()
    seconds = int((now - moment).total_seconds())
    size = abs(seconds)
    if size >= 2 * 86400:
        local = _local(moment)
        return f"{date_format(local, 'SHORT_DATE_FORMAT')} {local:%H:%M}"
    values = {"time": _duration(size)}
    return _("%(time)s ago") % values if seconds >= 0 else _("in %(time)s") % values


def _duration(seconds: int) -> str:
    if seconds < 60:
        return ngettext("%(n)d s", "%(n)d s", seconds) % {"n": seconds}
    if seconds < 3600:
        return ngettext("%(n)d min", "%(n)d min", seconds // 60) % {"n": seconds // 60}
    return ngettext("%(n)d h", "%(n)d h", seconds // 3600) % {"n": seconds // 3600}


def time_html(moment: datetime | None, text: str = "") -> SafeString:
    """``moment`` exactly (the page's script adds how long ago), or as ``text``."""
    if moment is None:
        return SafeString("–")
    return format_html(
        '<time datetime="{}" title="{}"{}>{}</time>',
        _utc(moment),
        exact(moment),
        "" if text else SafeString(" data-af-age"),
        text or exact(moment),
    )


def clock_html(moment: datetime) -> SafeString:
    """Only the time of day, for lists in which the date is clear; the rest on hover."""
    return time_html(moment, f"{_local(moment):%H:%M:%S}")


def took(start: datetime | None, end: datetime | None) -> str:
    """``0.35 s``, ``4 min 10 s``; empty where one end is not known."""
    if start is None or end is None:
        return ""
    seconds = max(0.0, (end - start).total_seconds())
    if seconds < 60:
        return _("%(number)s s") % {"number": number(seconds, 2)}
    return f"{_duration(int(seconds))} {_duration(int(seconds) % _unit(int(seconds)))}"


def _unit(seconds: int) -> int:
    return 60 if seconds < 3600 else 3600


def _utc(moment: datetime) -> str:
    return _with_zone(moment).astimezone(UTC).isoformat()


def when_html(task: Task) -> SafeString:
    """The time that matters most in the task's state."""
    label, moment = _when(task)
    if moment is None:
        return SafeString("")
    return format_html('<span class="af-quiet">{}</span> {}', label, time_html(moment))


def _when(task: Task) -> tuple[str, datetime | None]:
    if task.finished_at:
        return _("finished"), task.finished_at
    if task.state == State.RUNNING:
        return (_("started"), task.started_at) if task.started_at else ("", None)
    if task.state == State.WAITING:
        return _("created"), task.created_at
    if task.due:
        return _("due"), task.run_at
    return (_("next attempt"), task.run_at) if task.attempts else (_("runs"), task.run_at)


def pretty(value: Any) -> str:
    """JSON to read: indented, redacted, cut when very long."""
    try:
        return shorten(json.dumps(redact(value), indent=2, ensure_ascii=False))
    except RecursionError:
        return _("(nested too deep to be shown)")


def shown_text(text: str) -> str:
    """What a handler said, redacted and cut when very long."""
    if len(text) <= LONGEST_TEXT:
        return redact_text(text)
    # Only what is shown is worth the time, and a secret that the cut goes through must not show.
    kept = redact_text(text[: LONGEST_TEXT + LONGEST_SECRET])
    kept = kept[: min(LONGEST_TEXT, len(kept) - LONGEST_SECRET)]
    return with_note(kept, len(text) - len(kept))


def shorten(text: str) -> str:
    """``text``, cut with a note when it is longer than ``LONGEST_TEXT`` characters."""
    if len(text) <= LONGEST_TEXT:
        return text
    return with_note(text[:LONGEST_TEXT], len(text) - LONGEST_TEXT)


def with_note(text: str, left: int) -> str:
    """``text``, and that ``left`` characters of it are not shown."""
    note = ngettext("%(count)s more character", "%(count)s more characters", left)
    return f"{text}\n… {note % {'count': left}}"


def _local(moment: datetime) -> datetime:
    return timezone.localtime(_with_zone(moment))


def _with_zone(moment: datetime) -> datetime:
    if timezone.is_aware(moment):
        return moment
    return timezone.make_aware(moment, timezone.get_default_timezone())
