"""Counting without reading what is counted."""

from __future__ import annotations

import json
from dataclasses import dataclass

from django.db import connections
from django.db.models import QuerySet
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from tasks.dashboard.matching import Match
from tasks.dashboard.patience import OutOfTime, patience
from tasks.models import Task

LIMIT = 10_000
SECONDS = 2.0
#: The partial indexes whose number of entries says how many tasks are shown in a state.
STATE_INDEXES = {"failed": "tasks_failed", "waiting": "tasks_waiting", "due": "tasks_claim"}


@dataclass(frozen=True)
class Count:
    """How many there are: exactly, or about (then at least as many as were looked for)."""

    number: int
    exact: bool = True

    def __str__(self) -> str:
        shown = number_format(self.number, force_grouping=True)
        return shown if self.exact else _("≈ %(number)s") % {"number": shown}


def count(of: Match | QuerySet[Task], limit: int = LIMIT, *, seconds: float = SECONDS) -> Count:
    """Exact up to ``limit``, beyond it or after ``seconds`` an estimate.

    Where a match leaves out what the database finds in secrets, only what it keeps counts.
    """
    queryset = of.queryset if isinstance(of, Match) else of
    is_sifted = isinstance(of, Match) and of.is_sifted
    found = 0
    try:
        with patience(queryset.db, seconds):
            ids = list(queryset.order_by().values_list("pk", flat=True)[: limit + 1])
            found = len(ids)
            kept = len(of.kept_ids(ids)) if isinstance(of, Match) else found
            if found <= limit or (is_sifted and not kept):
                return Count(kept)
            if is_sifted:
                return Count(kept, exact=False)
    except OutOfTime:
        if is_sifted:
            return Count(0, exact=False)
        found = 0
    return Count(max(found - 1, _estimate(queryset, _state(of))), exact=False)


def entries(using: str, index: str) -> int:
    """How many entries PostgreSQL believes to be in an index; 0 when it does not know."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT reltuples FROM pg_class WHERE oid = to_regclass(%s)", [index])
        row = cursor.fetchone()
    return max(0, round(row[0])) if row else 0


def _state(of: Match | QuerySet[Task]) -> str:
    """The state whose tasks are counted, if it is all of them."""
    if not isinstance(of, Match) or of.viewer.is_scoped or len(of.meanings) != 1:
        return ""
    return of.meanings[0].state


def _estimate(queryset: QuerySet[Task], state: str) -> int:
    if connections[queryset.db].vendor != "postgresql":
        return 0
    index = STATE_INDEXES.get(state)
    return (entries(queryset.db, index) if index else 0) or _planned(queryset)


def _planned(queryset: QuerySet[Task]) -> int:
    plan = json.loads(queryset.order_by().explain(format="json"))
    return int(plan[0]["Plan"]["Plan Rows"])
