"""A record's tasks in one line: "3 of 4 done, 1 failed"."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping

from django.db.models import BooleanField, Count, ExpressionWrapper, Q
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks.dashboard.display import SHOWN_STATES
from tasks.models import Task, TaskQuerySet

#: What needs somebody comes first; what is done is counted apart.
_ORDER = ("failed", "running", "retrying", "due", "waiting", "later", "cancelled")

#: How many tasks are in each state, by ``Task.shown_state``.
Counts = Mapping[str, int]


def rollups(
    tasks: TaskQuerySet, content_type_id: int, keys: Collection[str]
) -> dict[str, Counter[str]]:
    """The counts of each record that has some of ``tasks``, by key; one grouped query."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    if not keys:
        return found
    rows = (
        tasks.filter(content_type=content_type_id, object_id__in=list(keys))
        .annotate(tried=ExpressionWrapper(Q(attempts__gt=0), output_field=BooleanField()))
        .order_by()
        .values_list("object_id", "state", "due", "tried")
        .annotate(tasks=Count("pk"))
    )
    for key, state, due, tried, number in rows:
        found[str(key)][shown_state(state, due, tried)] += number
    return found


def shown_state(state: str, due: bool, attempts: int | bool) -> str:
    """``Task.shown_state`` of a row with these columns."""
    return Task(state=state, due=bool(due), attempts=int(attempts)).shown_state


def rollup_text(counts: Counts) -> str:
    """``3 of 4 done, 1 failed``; empty without tasks."""
    if not counts:
        return ""
    pieces = [_done(counts)]
    for state in _ORDER:
        if counts.get(state):
            pieces.append(f"{counts[state]} {SHOWN_STATES[state].word}")
    return ", ".join(pieces)


def rollup_html(counts: Counts, states: Collection[str] = _ORDER) -> SafeString:
    """The same with a sign for each state; only ``states`` are named beside what is done."""
    if not counts:
        return SafeString("")
    others = [
        _pill(state, f"{counts[state]} {SHOWN_STATES[state].word}")
        for state in states
        if counts.get(state)
    ]
    done = format_html('<span class="af-rollup-done">{}</span>', _done(counts))
    whole = set(counts) == {"completed"}
    pieces = [_pill("completed", _done(counts))] if whole else [done, *others]
    inside = format_html_join(" ", "{}", ((piece,) for piece in pieces))
    return format_html('<span class="af-rollup">{}</span>', inside)


def _pill(state: str, text: str) -> SafeString:
    return format_html(
        '<span class="af-state af-{}"><span class="af-icon" aria-hidden="true">{}</span>{}</span>',
        state,
        SHOWN_STATES[state].icon,
        text,
    )


def _done(counts: Counts) -> str:
    return _("%(done)s of %(all)s done") % {
        "done": counts.get("completed", 0),
        "all": sum(counts.values()),
    }
