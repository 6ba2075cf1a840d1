"""Data to be edited by somebody who must not see its secrets: each is a placeholder that keeps it.

``[redacted 2]`` stands for the second hidden value. It may move to another item of the same list,
with the item it belongs to, but not to another key: there it could come to light.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tasks.redact import is_secret_key, redact_text

_PLACEHOLDER = re.compile(r"\[redacted (\d{1,6})\]")
_HALF = re.compile(r"\[redacted( \d{1,6})?\]")

#: The keys that lead to a value; None for any index of a list.
Path = tuple[str | None, ...]


class PlaceholderMoved(ValueError):
    """A placeholder stands where its value does not belong. ``path`` says where, in words."""

    def __init__(self, text: str, path: Path) -> None:
        self.text = text
        self.path = shown_path(path)
        super().__init__(f"{text} at {self.path}")


@dataclass(frozen=True)
class Hidden:
    """A value that is not shown, and where it stands."""

    path: Path
    value: Any


def hide(data: Any) -> tuple[Any, list[Hidden]]:
    """A copy of ``data`` with numbered placeholders for secrets, and what they stand for."""
    hidden: list[Hidden] = []

    def copy(value: Any, path: Path, *, secret: bool) -> Any:
        if _is_hidden(value, secret):
            hidden.append(Hidden(path, value))
            return f"[redacted {len(hidden)}]"
        if isinstance(value, dict):
            return {k: copy(v, (*path, k), secret=is_secret_key(k)) for k, v in value.items()}
        if isinstance(value, list):
            return [copy(item, (*path, None), secret=False) for item in value]
        return value

    return copy(data, (), secret=False), hidden


def fill(data: Any, hidden: list[Hidden]) -> Any:
    """A copy of edited ``data`` with the stored values in place of their placeholders.

    Raises PlaceholderMoved for one that stands elsewhere, is unknown, or was written into.
    """

    def copy(value: Any, path: Path) -> Any:
        if isinstance(value, str) and _HALF.search(value):
            return _stored(value, path, hidden)
        if isinstance(value, dict):
            return {key: copy(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [copy(item, (*path, None)) for item in value]
        return value

    return copy(data, ())


def shown_path(path: Path) -> str:
    """``data.items[…].card``."""
    return "data" + "".join("[…]" if key is None else f".{key}" for key in path)


def _is_hidden(value: Any, secret: bool) -> bool:
    if secret:
        # That a secret is missing is no secret, see ``tasks.redact``.
        return value not in (None, "", [], {})
    if isinstance(value, dict):
        # Among its keys no placeholder can stand.
        return any(redact_text(key) != key for key in value)
    # What looks like a placeholder is hidden too, or nobody could tell it from one.
    return isinstance(value, str) and (redact_text(value) != value or bool(_HALF.search(value)))


def _stored(text: str, path: Path, hidden: list[Hidden]) -> Any:
    found = _PLACEHOLDER.fullmatch(text)
    number = int(found[1]) if found else 0
    if not 1 <= number <= len(hidden) or hidden[number - 1].path != path:
        raise PlaceholderMoved(text, path)
    return hidden[number - 1].value
