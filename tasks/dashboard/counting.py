"""Counting without reading what is counted."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connections
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from tasks.dashboard.matching import Match
from tasks.dashboard.numbers import number
from tasks.dashboard.patience import OutOfTime, patience
from tasks.models import Task

LIMIT = 10_000
SECONDS = 2.0
#: The partial indexes whose number of entries says how many tasks are shown in a state.
STATE_INDEXES = {
    "failed": "tasks_failed",
    "waiting": "tasks_waiting",
    "retrying": "tasks_retrying",
    "due": "tasks_claim",
}


@dataclass(frozen=True)
class Count:
    """How many there are: exactly, or about (then at least as many as were looked for)."""

    number: int
    exact: bool = True

    def __str__(self) -> str:
        shown = number(self.number)
        return shown if self.exact else _("≈ %(number)s") % {"number": shown}


def count(match: Match, limit: int = LIMIT, *, seconds: float = SECONDS) -> Count:
    """Exact up to ``limit``, beyond it or after ``seconds`` an estimate.

    Where a match leaves out what the database finds in secrets, only what it keeps counts.
    """
    queryset, is_sifted = match.queryset, match.is_sifted
    found = 0
    try:
        with patience(queryset.db, seconds):
            ids = list(queryset.order_by().values_list("pk", flat=True)[: limit + 1])
            found = len(ids)
            kept = len(match.kept_ids(ids))
            if found <= limit or (is_sifted and not kept):
                return Count(kept)
            if is_sifted:
                return Count(kept, exact=False)
    except OutOfTime:
        if is_sifted:
            return Count(0, exact=False)
        found = 0
    return Count(max(found - 1, _estimate(match)), exact=False)


def entries(using: str, indexes: Iterable[str]) -> dict[str, int]:
    """How many entries PostgreSQL believes to be in each index, where it knows; one query."""
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT relname, reltuples FROM pg_class WHERE reltuples > 0 AND oid IN"
            " (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name)",
            [list(indexes)],
        )
        return {name: round(tuples) for name, tuples in cursor.fetchall()}


def _estimate(match: Match) -> int:
    using = match.queryset.db
    if connections[using].vendor != "postgresql":
        return 0
    index = STATE_INDEXES.get(_state(match), "")
    return entries(using, [index]).get(index) or _planned(match.queryset)


def _state(match: Match) -> str:
    """The state whose tasks are counted, if it is all of them."""
    if match.viewer.is_scoped or len(match.meanings) != 1:
        return ""
    return match.meanings[0].state


def _planned(queryset: QuerySet[Task]) -> int:
    plan = json.loads(queryset.order_by().explain(format="json"))
    return int(plan[0]["Plan"]["Plan Rows"])
