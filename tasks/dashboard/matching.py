"""A search, understood: which tasks match, what it says in plain words, what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from tasks.dashboard.grammar import Term, is_joint, parse, unparse
from tasks.dashboard.meaning import Meaning, NoMeaning
from tasks.dashboard.terms import meaning, state_meant
from tasks.models import Task, TaskQuerySet

if TYPE_CHECKING:
    from tasks.dashboard.viewer import Viewer


@dataclass(frozen=True)
class Match:
    """The tasks that one person sees and that match a search; none when it has ``errors``."""

    viewer: Viewer
    terms: Sequence[Term]
    meanings: Sequence[Meaning]
    errors: Sequence[str]
    instead: Sequence[str] = ()  # searches that may have been meant

    @property
    def text(self) -> str:
        """The search as it stands in addresses."""
        return unparse(self.terms)

    @cached_property
    def queryset(self) -> TaskQuerySet:
        """All of them, in no order. What ``keeps`` leaves out is still in it."""
        if self.errors:
            return self.viewer.tasks.none()
        return self.viewer.tasks.filter(_all(self.meanings))

    def keeps(self, tasks: Iterable[Task]) -> list[Task]:
        """Those of ``tasks`` that really match: some texts must be compared as they are shown."""
        given = list(tasks)
        kept = self.kept_ids([task.pk for task in given])
        return [task for task in given if task.pk in kept]

    @property
    def is_sifted(self) -> bool:
        """Whether ``keeps`` may leave something out: how much ``queryset`` has is then a secret."""
        return any(one.keeps for one in self.meanings)

    def kept_ids(self, ids: Iterable[int]) -> set[int]:
        """As ``keeps``, for ids."""
        kept = set(ids)
        for one in self.meanings:
            if one.keeps and kept:
                kept &= one.keeps(kept)
        return kept

    @property
    def explanation(self) -> str:
        """In plain words: "failed tasks in the queue crm, created after 20 Nov 2026"."""
        heads = dict.fromkeys(one.head for one in self.meanings if one.head)
        head = _(" and at the same time ").join(heads) or _("tasks")
        words = ", ".join(one.words for one in self.meanings if one.words)
        return f"{head} {words}".strip()

    @property
    def states(self) -> frozenset[str] | None:
        """The states, as they are shown, that it asks for; None: any."""
        found = frozenset(one.state for one in self.meanings if one.state)
        return found or None

    @property
    def queues(self) -> frozenset[str] | None:
        """The queues it asks for; None: any."""
        found = frozenset(one.queue for one in self.meanings if one.queue)
        return found or None

    @cached_property
    def base(self) -> TaskQuerySet:
        """What an index gives in the order of ids, whoever looks."""
        return Task.objects.filter(_all(one for one in self.meanings if one.in_order))

    @cached_property
    def few(self) -> TaskQuerySet | None:
        """What an index finds, in no order, as long as it is not much; None: no such index."""
        first = self._few
        if first is None:
            return None
        with_queue = [first, *(one for one in self.meanings if one.queue)]
        return Task.objects.filter(_all(with_queue if first.state == "due" else [first]))

    @property
    def are_more(self) -> Callable[[int], bool] | None:
        """Whether ``few`` are more than so many, or more lie beside them; None: count ``few``."""
        return self._few.are_more if self._few else None

    @cached_property
    def _few(self) -> Meaning | None:
        small = [one for one in self.meanings if one.few]
        # Numbers and records before states: there are fewer of them.
        return min(small, key=lambda one: bool(one.state), default=None)

    @property
    def is_in_order(self) -> bool:
        """Whether ``base`` is all that is asked, so that one index answers in order."""
        return not self.viewer.is_scoped and all(one.in_order for one in self.meanings)


def matching(viewer: Viewer, text: str, now: datetime | None = None) -> Match:
    """What ``text`` asks for; times like "24h" are counted back from ``now``."""
    terms, wrong = parse(text)
    meanings: list[Meaning] = []
    errors = [one.why for one in wrong]
    instead = [search for one in wrong for search in one.instead]
    for term in terms:
        others = [other for other in terms if other is not term]
        try:
            meanings.append(meaning(viewer, term, now or timezone.now(), others))
        except NoMeaning as error:
            errors.append(str(error))
            instead += _with_others(error.instead, others)
        if not term.key and not errors:
            instead += _with_others(_states(term.value), others)
    return Match(viewer, terms, meanings, errors, instead if len(errors) < 2 else ())


def _states(text: str) -> list[str]:
    """Searches for the states that ``text`` consists of, if it does of nothing else."""
    words = [text] if state_meant(text) else [w for w in re.split(r"[\s,]+", text) if w]
    states = [state_meant(word) for word in words if not is_joint(word)]
    return [f"state:{state}" for state in dict.fromkeys(states)] if all(states) else []


def _with_others(instead: Iterable[str], others: Iterable[Term]) -> list[str]:
    return [f"{one} {unparse(others)}".strip() for one in instead]


def _all(meanings: Iterable[Meaning]) -> Q:
    condition = Q()
    for one in meanings:
        condition &= one.condition
    return condition
