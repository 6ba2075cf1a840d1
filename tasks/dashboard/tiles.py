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
    """Counts of what is not over by state; of what is over, the last hour's and day's roll-ups.

    ``hour``: by queue what was done in the last hour.
    """
    counted = _counted(viewer)
    shown = [_tile(viewer, name, counted[name]) for name in _ORDER]
    return shown if viewer.is_scoped else [*shown, *_rolled_up(viewer, hour)]


def failed_text(shown: list[Tile]) -> str:
    """How many failed, for the tab's title; empty for none."""
    text = next((tile.text for tile in shown if tile.name == "failed"), "0")
    return "" if text == "0" else _("%(number)s failed") % {"number": text}


def _counted(viewer: Viewer) -> dict[str, str]:
    questions = [getattr(viewer.tasks, name)().order_by(*_COUNTED[name]) for name in _COUNTED]
    # One index has all that are to come.
    questions.append(viewer.tasks.filter(state=State.SCHEDULED, due=False).order_by("run_at"))
    *counts, coming = probes.counts(questions, probes.MOST_COUNTED)
    found = {**dict(zip(_COUNTED, counts, strict=True)), "coming": coming}
    guesses = _guesses(viewer, [name for name in found if found[name] > probes.MOST_COUNTED])
    texts = {name: _text(count, guesses.get(name)) for name, count in found.items()}
    return {**texts, "later": _later(coming, found["retrying"], guesses)}


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


def _rolled_up(viewer: Viewer, hour: Mapping[str, Counts]) -> list[Tile]:
    day = figures.totals(viewer.tasks.db, since=timezone.now() - timedelta(days=1))
    return [
        _tile(
            viewer,
            name,
            number(sum(getattr(counts, name) for counts in hour.values())),
            _("last hour"),
            _("%(number)s last day") % {"number": number(getattr(day, name))},
        )
        for name in ("completed", "cancelled")
    ]


def _tile(viewer: Viewer, name: str, text: str, *more: str) -> Tile:
    return Tile(name, SHOWN_STATES[name], text, list_url(viewer, f"state:{name}"), more)
