"""What was changed in a task's data, as rows to read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ChangedValue:
    """One value: ``before`` None where it was added, ``after`` None where it was removed."""

    path: str
    before: str | None
    after: str | None


def changed_values(difference: Any) -> list[ChangedValue]:
    """The rows of a ``TaskEvent.difference``, for who may see what tasks carry."""
    rows = difference if isinstance(difference, list) else []
    return [
        ChangedValue(str(row.get("path", "")), _text(row, "before"), _text(row, "after"))
        for row in rows
        if isinstance(row, dict)
    ]


def _text(row: dict[str, Any], key: str) -> str | None:
    return json.dumps(row[key], ensure_ascii=False) if key in row else None
