"""Reading a page of what matches, newest first, by key: never more rows than it says.

An index answers where there is one for the search: in the order of ids, or because it finds few.
Everything else is looked for among the next 100,000 rows below the page's beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

from tasks.dashboard.keyset import ends, id_at
from tasks.dashboard.matching import Match
from tasks.dashboard.patience import OutOfTime, Patience, patience
from tasks.models import TaskQuerySet

PAGE = 50
#: So many rows are looked through at most, in steps, so that what was found is kept.
STEPS = (2_000, 18_000, 80_000)
SECONDS = 2.0
#: An index that finds more than this is not asked for all of it.
FEW = 10_000
#: Up to so many are read without asking first how many there are.
SOME = 1_000
#: How far a task's time of creation and its place among the ids may disagree.
SLACK = timedelta(hours=1)
#: So many rows at once are compared as they are shown, once the first page of them was.
SIFTED = 500
#: Entries of the table of declared keys.
KEY_STEPS = (200, 2_000, 8_000)

#: Matching ids in order, and the id from which to go on; None at the end.
_Seen = tuple[list[int], int | None]
#: ``(position, end, down)``
_Look = Callable[[int | None, int | None, bool], _Seen]


@dataclass(frozen=True)
class Found:
    """One page of ids, newest first.

    ``older``: from where the next page goes on (``before``), None at the end. ``reached``: the id
    down to which, ``upwards`` up to which, was looked when that was not everything and the page is
    not full. ``is_newest``: read upwards, nothing was left above. ``gave_up``: the time was over.
    ``total``: how many match in all, where that is known.
    """

    ids: list[int] = field(default_factory=list)
    older: int | None = None
    reached: int | None = None
    upwards: bool = False
    is_newest: bool = False
    gave_up: bool = False
    total: int | None = None


def read(
    match: Match,
    *,
    before: int | None = None,
    after: int | None = None,
    size: int = PAGE,
    seconds: float = SECONDS,
) -> Found:
    """The newest ``size`` matching tasks with ids below ``before``, or the oldest above ``after``.

    When nothing more is newer than a page above ``after``, that is the newest page.
    """
    if match.errors:
        return Found()
    try:
        with patience(match.queryset.db, seconds) as kept:
            return _read(_Reader(match, kept, size), before, after)
    except OutOfTime:
        return Found(gave_up=True)


def _read(reader: _Reader, before: int | None, after: int | None) -> Found:
    few = reader.few()
    if few is not None:
        return _page(few, before, after, reader.size)
    if after is not None:
        above = reader.walk(after, down=False)
        if len(above.ids) >= reader.size or above.reached is not None or above.gave_up:
            return above if above.ids else replace(above, older=after + 1)
        return replace(reader.walk(None, down=True), is_newest=True)
    return reader.walk(before, down=True)


def _page(ids: list[int], before: int | None, after: int | None, size: int) -> Found:
    newest = sorted(ids, reverse=True)
    shown = newest
    if after is not None:
        above = [pk for pk in newest if pk > after]
        shown = above[-size:] if len(above) >= size else newest
    elif before is not None:
        shown = [pk for pk in newest if pk < before]
    shown = shown[:size]
    more = bool(shown) and shown[-1] != newest[-1]
    is_newest = after is not None and shown == newest[:size]
    return Found(shown, shown[-1] if more else None, is_newest=is_newest, total=len(newest))


class _Reader:
    """One question to the database, in as many steps as it needs."""

    def __init__(self, match: Match, kept: Patience, size: int) -> None:
        self.match = match
        self.kept = kept
        self.size = size

    def few(self) -> list[int] | None:
        """All matching ids where an index finds them; None where it does not, or finds many."""
        small, are_more = self.match.few, self.match.are_more
        if small is None or (are_more and are_more(FEW)):
            return None
        keys = small.order_by().values_list("pk", flat=True)
        ids = list(keys[: SOME + 1])
        if len(ids) > SOME:
            # The database counts them in a fraction of the time that reading them takes.
            if not are_more and keys[FEW : FEW + 1].exists():
                return None
            ids = list(keys)
        if len(self.match.meanings) > 1 or self.match.viewer.is_scoped:
            narrowed = self.match.queryset.order_by()
            if len(ids) <= self.size:
                narrowed = narrowed.filter(pk__in=ids)
            ids = list(narrowed.values_list("pk", flat=True))
        return list(self.match.kept_ids(ids))

    def walk(self, start: int | None, *, down: bool) -> Found:
        """Row after row from ``start`` in the order of ids."""
        bounds = self._bounds()
        first, last = bounds if down else bounds[::-1]
        position = _nearer(start, last if down else _before(last), down=down)
        found: list[int] = []
        with suppress(OutOfTime), self.kept.asking():
            for look in self._looks():
                self.kept.check()
                ids, position = look(position, first, down)
                found += ids
                if len(found) > self.size:
                    return _in_view(found[: self.size], found[self.size - 1], down=down)
                if position is None:
                    return _in_view(found, None, down=down)
            return _in_view(found, position, position, down=down)
        return replace(_in_view(found, position, position, down=down), gave_up=True)

    def _looks(self) -> Iterator[_Look]:
        keys = next((one.keys for one in self.match.meanings if one.keys is not None), None)
        if self.match.is_in_order:
            yield self._in_order
        elif keys is not None:
            yield from (partial(self._in_keys, keys, step) for step in KEY_STEPS)
        else:
            yield from (partial(self._in_rows, step) for step in STEPS)

    def _in_order(self, position: int | None, end: int | None, down: bool) -> _Seen:
        return self._first(_beyond(self.match.queryset, position, down=down), None, down=down)

    def _in_rows(self, step: int, position: int | None, end: int | None, down: bool) -> _Seen:
        """Among the next ``step`` rows that an index gives in order, but not beyond ``end``."""
        base = _beyond(self.match.base, position, down=down).order_by(_order(down))
        edge = next(iter(base.values_list("pk", flat=True)[step - 1 : step]), None)
        rows = _beyond(self.match.queryset, position, down=down)
        if self.match.is_sifted:
            limits = [limit for limit in (edge, end) if limit is not None]
            nearest = (max if down else min)(limits, default=None)
            kept = self._sifted(_until(rows, nearest, down=down), down=down)
            return kept, edge if nearest == edge else None
        if end is not None and (edge is None or (edge < end if down else edge > end)):
            return self._first(_until(rows, end, down=down), None, down=down)
        return self._first(_until(rows, edge, down=down), edge, down=down)

    def _first(self, rows: TaskQuerySet, edge: int | None, *, down: bool) -> _Seen:
        page = rows.order_by(_order(down)).values_list("pk", flat=True)
        ids = list(page[: self.size + 1])
        kept = self.match.kept_ids(ids)
        return [pk for pk in ids if pk in kept], ids[-1] if len(ids) > self.size else edge

    def _sifted(self, rows: TaskQuerySet, *, down: bool) -> list[int]:
        """What is kept of ``rows``: how much else the database finds must not show anywhere."""
        found: list[int] = []
        position, step = None, self.size + 1
        while len(found) <= self.size:
            page = _beyond(rows, position, down=down).order_by(_order(down))
            ids = list(page.values_list("pk", flat=True)[:step])
            kept = self.match.kept_ids(ids)
            found += [pk for pk in ids if pk in kept]
            if len(ids) < step:
                break
            position, step = ids[-1], SIFTED
            self.kept.check()
        return found

    def _in_keys(
        self, keys: Any, step: int, position: int | None, end: int | None, down: bool
    ) -> _Seen:
        """Among the next ``step`` tasks that the table of declared keys names."""
        ids = keys.order_by("-task_id" if down else "task_id")
        if self.match.viewer.is_scoped:
            # How far was searched must not tell of others' tasks, nor which ones have the key.
            ids = ids.filter(task__in=self.match.viewer.tasks.order_by().values("pk"))
        if position is not None:
            ids = ids.filter(**{"task_id__lt" if down else "task_id__gt": position})
        named = list(ids[:step])
        rows = self.match.queryset.order_by().filter(pk__in=named)
        kept = self.match.kept_ids(rows.values_list("pk", flat=True))
        return sorted(kept, reverse=down), named[-1] if len(named) == step else None

    def _bounds(self) -> tuple[int | None, int | None]:
        """Between which ids tasks lie that were created when the search asks for."""
        since = [one.since for one in self.match.meanings if one.since]
        until = [one.until for one in self.match.meanings if one.until]
        known = ends() if since or until else None
        if known is None:
            return None, None
        low = id_at(max(since) - SLACK, known, within=STEPS[0]) if since else None
        high = id_at(min(until) + SLACK, known, within=STEPS[0]) if until else None
        # Either is the upper end of where it may be.
        return (low and low - STEPS[0]), high


def _in_view(
    ids: list[int], goes_on: int | None, reached: int | None = None, *, down: bool
) -> Found:
    if down:
        return Found(ids, goes_on, reached)
    # Read upwards: below the page lies what one came from.
    return Found(ids[::-1], ids[0] if ids else None, reached, upwards=True)


def _order(down: bool) -> str:
    return "-pk" if down else "pk"


def _beyond(rows: TaskQuerySet, position: int | None, *, down: bool) -> TaskQuerySet:
    if position is None:
        return rows
    return rows.filter(**{"pk__lt" if down else "pk__gt": position})


def _until(rows: TaskQuerySet, edge: int | None, *, down: bool) -> TaskQuerySet:
    if edge is None:
        return rows
    return rows.filter(**{"pk__gte" if down else "pk__lte": edge})


def _nearer(start: int | None, limit: int | None, *, down: bool) -> int | None:
    given = [number for number in (start, limit) if number is not None]
    return (min if down else max)(given, default=None)


def _before(number: int | None) -> int | None:
    return None if number is None else number - 1
