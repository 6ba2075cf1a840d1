"""Where in the table a moment lies: ids are given out about in the order of creation."""

from __future__ import annotations

from datetime import datetime

from tasks.models import Task

#: So many rows are looked at by key in each round.
_PROBES = 256
_MOST_ROUNDS = 12

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
    for _round in range(_MOST_ROUNDS):
        if high - low <= within:
            break
        step = -(-(high - low) // _PROBES)
        seen = _look(range(low, high, step))
        if seen and step == 1:
            return _split(seen, moment, (low, high), margin=0)[1]
        if len(seen) > _PROBES // 8:
            low, high = _split(seen, moment, (low, high), margin=1)
        else:
            low, high = _halve(low, high, moment)
    return high


def _look(ids: range) -> _Seen:
    rows = Task.objects.filter(pk__in=list(ids)).order_by()
    return sorted(rows.values_list("pk", "created_at"))


def _split(
    seen: _Seen, moment: datetime, known: tuple[int, int], *, margin: int
) -> tuple[int, int]:
    # By their number: a task that was built long before it was written lies among newer ones.
    older = sum(created_at < moment for _pk, created_at in seen)
    first, last = older - 1 - margin, older + margin
    low = seen[first][0] if first >= 0 else known[0]
    return low, seen[last][0] if last < len(seen) else known[1]


def _halve(low: int, high: int, moment: datetime) -> tuple[int, int]:
    """Where most ids are missing: one question to the first row from the middle on."""
    middle = (low + high) // 2
    rows = Task.objects.filter(pk__gte=middle, pk__lt=high).order_by("pk")
    found = rows.values_list("pk", "created_at").first()
    if found is None:
        return low, middle
    return (found[0] + 1, high) if found[1] < moment else (low, middle)
