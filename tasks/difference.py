"""What changed between two versions of a task's data, without its secrets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from tasks.redact import MASK, is_secret_key, redact

MOST_CHANGES = 100
LONGEST_VALUE = 1000

_ABSENT = object()


def difference(before: Any, after: Any, path: str = "data") -> list[dict[str, Any]]:
    """The changes, redacted: ``{"path": "data.to", "before": …, "after": …}``.

    A key that was added has no ``before``, one that was removed no ``after``. At most
    ``MOST_CHANGES``, each value cut to about ``LONGEST_VALUE`` characters.
    """
    return list(islice(_changes(path, before, after, secret=False), MOST_CHANGES))


def _changes(path: str, before: Any, after: Any, *, secret: bool) -> Iterator[dict[str, Any]]:
    if before is _ABSENT or after is _ABSENT or secret or not _alike(before, after):
        if before is _ABSENT or after is _ABSENT or _differ(before, after):
            yield _change(path, before, after, secret)
        return
    if isinstance(before, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _changes(
                f"{path}.{key}",
                before.get(key, _ABSENT),
                after.get(key, _ABSENT),
                secret=is_secret_key(key),
            )
        return
    for index in range(max(len(before), len(after))):
        old, new = (rows[index] if index < len(rows) else _ABSENT for rows in (before, after))
        yield from _changes(f"{path}[{index}]", old, new, secret=False)


def _alike(before: Any, after: Any) -> bool:
    """Whether the two are compared item by item."""
    return type(before) is type(after) and isinstance(before, dict | list)


def _differ(before: Any, after: Any) -> bool:
    # 1, 1.0 and True are equal in Python, and different things in JSON.
    return type(before) is not type(after) or bool(before != after)


def _change(path: str, before: Any, after: Any, secret: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"path": _shown(path, secret=False)}
    if before is not _ABSENT:
        shown["before"] = _shown(before, secret)
    if after is not _ABSENT:
        shown["after"] = _shown(after, secret)
    return shown


def _shown(value: Any, secret: bool) -> Any:
    if secret and value not in (None, "", [], {}):
        return MASK
    value = redact(value)
    if isinstance(value, str):
        return value if len(value) <= LONGEST_VALUE else value[:LONGEST_VALUE] + "…"
    text = str(value)
    return value if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"
