"""Where in the table a moment lies: ids are given out about in the order of creation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tasks.dashboard import probes
from tasks.models import Task

#: So many rows are looked at by key in each round.
_PROBES = 256
#: Where most ids are missing each is a question of its own.
_PROBES_IN_GAPS = 128
_MOST_ROUNDS = 16

#: Ids, and when their rows were created.
_Seen = list[tuple[int, datetime]]


def ends() -> tuple[int, int] | None:
    """The lowest and the highest id, or None when there are no tasks."""
    ids = Task.objects.values_list("pk", flat=True)
    lowest, highest = ids.order_by("pk").first(), ids.order_by("-pk").first()
    return None if lowest is None or highest is None else (lowest, highest)


def id_at(moment: datetime, between: tuple[int, int], *, within: int = 1) -> int:
    """The id from which on tasks were created at ``moment`` or later, off by about ``within``.

    ``between``: see ``ends``. A few questions by primary key, however large the table is.
    """
    low, high = between[0], between[1] + 1
    look, most = _at, _PROBES
    for _round in range(_MOST_ROUNDS):
        if high - low <= within:
            break
        step = -(-(high - low) // most)
        seen = look(range(low, high, step))
        if step == 1:
            return _split(seen, moment, (low, high), margin=0)[1]
        if look is _at and len(seen) <= _PROBES // 8:
            look, most = _from, _PROBES_IN_GAPS
        else:
            low, high = _split(seen, moment, (low, high), margin=1)
    return high


def _at(ids: Sequence[int]) -> _Seen:
    rows = Task.objects.filter(pk__in=ids).order_by()
    return sorted(rows.values_list("pk", "created_at"))


def _from(ids: Sequence[int]) -> _Seen:
    """Each of ``ids`` with the time of the first row from there on."""
    rows = Task.objects.order_by("pk").only("created_at")
    found = probes.firsts([rows.filter(pk__gte=pk)[:1] for pk in ids])
    return [(ids[place], task.created_at) for place, task in sorted(found.items())]


def _split(
    seen: _Seen, moment: datetime, known: tuple[int, int], *, margin: int
) -> tuple[int, int]:
    # By their number: a task that was built long before it was written lies among newer ones.
    older = sum(created_at < moment for _pk, created_at in seen)
    first, last = older - 1 - margin, older + margin
    low = seen[first][0] if first >= 0 else known[0]
    return low, seen[last][0] if last < len(seen) else known[1]
