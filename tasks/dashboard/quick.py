"""Filters beside the search: links that put a term into it, and what they can be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks.conf import aftersave_settings
from tasks.dashboard.display import SHOWN_STATES
from tasks.dashboard.grammar import parse, replaced, value_of
from tasks.handlers import registry
from tasks.models import Queue, Task
from tasks.names import OWN

if TYPE_CHECKING:
    from tasks.dashboard.display import Words

SPANS: dict[str, Words] = {
    "1h": gettext_lazy("last hour"),
    "24h": gettext_lazy("last 24 hours"),
    "7d": gettext_lazy("last 7 days"),
}


@dataclass(frozen=True)
class Choice:
    """One value of a filter: the address of the list with it."""

    label: str
    query: str
    chosen: bool
    icon: str = ""
    state: str = ""


@dataclass(frozen=True)
class Filter:
    """A fold of links. ``chosen`` is what it is set to, or nothing."""

    key: str
    label: str
    chosen: str
    choices: Sequence[Choice]


def filters(text: str) -> list[Filter]:
    """State, queue and time of creation, seen from the search ``text``."""
    terms = parse(text)[0]
    state, queue, created = (value_of(terms, key) for key in ("state", "queue", "created"))
    return [
        _filter(text, "state", _("State"), state.lower(), SHOWN_STATES, _state_words()),
        _filter(text, "queue", _("Queue"), queue, _queues(queue), {}),
        _filter(text, "created", _("Created"), created, SPANS, SPANS),
    ]


def query_of(text: str, **more: str | int | None) -> str:
    """``?q=…`` for the address of the list; empty values are left out."""
    values = {"q": text, **more}
    given = {key: str(value) for key, value in values.items() if value not in ("", None)}
    return f"?{urlencode(given)}" if given else "?"


def _filter(
    text: str, key: str, label: str, chosen: str, values: Iterable[str], words: dict[str, Words]
) -> Filter:
    choices = [Choice(_("any"), query_of(replaced(text, key, None)), not chosen)]
    for value in values:
        shown = SHOWN_STATES.get(value) if key == "state" else None
        choices.append(
            Choice(
                str(words.get(value, value)),
                query_of(replaced(text, key, value)),
                value == chosen,
                shown.icon if shown else "",
                value if shown else "",
            )
        )
    return Filter(key, label, str(words.get(chosen, chosen)), choices)


def _state_words() -> dict[str, Words]:
    return {key: shown.word for key, shown in SHOWN_STATES.items()}


def _queues(chosen: str) -> list[str]:
    """Queues that workers have met, that handlers name, and the one that is looked at."""
    names = set(Queue.objects.using(Task.objects.db).values_list("name", flat=True))
    names |= {known.queue for known in registry if known.queue}
    names |= {aftersave_settings.DEFAULT_QUEUE, chosen} - {""}
    return sorted(names - {OWN}) + ([OWN] if OWN in names else [])
