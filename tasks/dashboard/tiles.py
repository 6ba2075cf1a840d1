"""The figures at the head of the overview: how many tasks are in each state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.db import connections
from django.utils import timezone
from django.utils.translation import gettext as _

from tasks import figures
from tasks.dashboard import probes
from tasks.dashboard.counting import STATE_INDEXES, entries
from tasks.dashboard.display import SHOWN_STATES, ShownState
from tasks.dashboard.numbers import about, more_than, number
from tasks.dashboard.page import list_url
from tasks.dashboard.viewer import Viewer
from tasks.figures import Counts
from tasks.models import State

#: Each in the order of the index that answers it. What runs is bounded by the workers' slots.
_COUNTED = {
    "due": ("queue", "-priority", "run_at", "id"),
    "retrying": ("id",),
    "waiting": ("id",),
    "running": (),
    "failed": ("id",),
}
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_ORDER = ("due", "later", "retrying", "waiting", "running", "failed")
_INDEXES = {**STATE_INDEXES, "coming": "tasks_later"}


@dataclass(frozen=True)
class Tile:
    """One figure with its state; ``more`` says over which time, where that matters."""

    name: str
    shown: ShownState
    text: str
    url: str
    more: tuple[str, ...] = ()


def tiles(viewer: Viewer, hour: Mapping[str, Counts]) -> list[Tile]:
    """How many are in each state; of what is over, how many came there in the last hour and day.

    ``hour``: by queue what was done in the last hour.
    """
    counted = _counted(viewer)
    shown = [_tile(viewer, name, counted[name]) for name in _ORDER]
    if not viewer.is_scoped:
        shown.append(_completed(viewer, hour))
    return [*shown, _over(viewer, "cancelled", counted["cancelled"], counted["cancelled_day"])]


def failed_text(shown: list[Tile]) -> str:
    """How many failed, for the tab's title; empty for none."""
    text = next((tile.text for tile in shown if tile.name == "failed"), "0")
    return "" if text == "0" else _("%(number)s failed") % {"number": text}


def _counted(viewer: Viewer) -> dict[str, str]:
    questions = [getattr(viewer.tasks, name)().order_by(*_COUNTED[name]) for name in _COUNTED]
    # One index has all that are to come.
    questions.append(viewer.tasks.filter(state=State.SCHEDULED, due=False).order_by("run_at"))
    # Workers report what handlers cancel; most is cancelled by people, and with what it waited for.
    cancelled = viewer.tasks.cancelled().order_by("finished_at")
    now = timezone.now()
    questions += [cancelled.filter(finished_at__gte=now - length) for length in (_HOUR, _DAY)]
    names = [*_COUNTED, "coming", "cancelled", "cancelled_day"]
    found = dict(zip(names, probes.counts(questions, probes.MOST_COUNTED), strict=True))
    guesses = _guesses(viewer, [name for name in found if found[name] > probes.MOST_COUNTED])
    texts = {name: _text(count, guesses.get(name)) for name, count in found.items()}
    return {**texts, "later": _later(found["coming"], found["retrying"], guesses)}


def _later(coming: int, retrying: int, guesses: Mapping[str, int]) -> str:
    """How many of those that are to come are not tried again, as far as they were counted."""
    if coming <= probes.MOST_COUNTED:
        return number(coming - retrying)
    least = coming - retrying  # nought where neither was counted to its end
    if "coming" in guesses:
        guess = guesses["coming"] - guesses.get("retrying", retrying)
        return about(max(least, guess), exact=False)
    return more_than(least, least - 1) if least else "–"


def _text(count: int, guess: int | None) -> str:
    if guess is None:
        return more_than(count, probes.MOST_COUNTED)
    return about(max(count, guess), exact=False)


def _guesses(viewer: Viewer, names: list[str]) -> dict[str, int]:
    """About how many are in states that were too many to count, where an index knows; one query."""
    indexes = {_INDEXES[name]: name for name in names if name in _INDEXES}
    using = viewer.tasks.db
    if not indexes or viewer.is_scoped or connections[using].vendor != "postgresql":
        return {}
    return {indexes[name]: count for name, count in entries(using, indexes).items()}


def _completed(viewer: Viewer, hour: Mapping[str, Counts]) -> Tile:
    day = figures.totals(viewer.tasks.db, since=timezone.now() - _DAY)
    in_hour = sum(counts.completed for counts in hour.values())
    return _over(viewer, "completed", number(in_hour), number(day.completed))


def _over(viewer: Viewer, name: str, hour: str, day: str) -> Tile:
    return _tile(viewer, name, hour, _("last hour"), _("%(number)s last day") % {"number": day})


def _tile(viewer: Viewer, name: str, text: str, *more: str) -> Tile:
    return Tile(name, SHOWN_STATES[name], text, list_url(viewer, f"state:{name}"), more)
