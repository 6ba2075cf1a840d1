"""Reading what somebody typed as a task's new data, and saying what is wrong with it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from django.utils.translation import gettext as _

from tasks.actions import accepted_data
from tasks.dashboard.placeholders import Hidden, PlaceholderMoved, fill, hide
from tasks.exceptions import DataRefused, InvalidTask
from tasks.redact import MASK, redact_text
from tasks.text import one_line

#: Longer data is not edited on a page.
LONGEST_EDITED = 500_000
_SHORTEST_SECRET = 3


class Wrong(Exception):
    """What was typed cannot become the data; the message is for the person."""


def as_typed(data: Any) -> str | None:
    """The data to be edited, its secrets as placeholders; None when it is too long."""
    text = json.dumps(hide(data)[0], indent=2, ensure_ascii=False)
    return text if len(text) <= LONGEST_EDITED else None


def read(name: str, typed: str, stored: Any) -> dict[str, Any]:
    """The data of a task called ``name`` that ``typed`` stands for. Raises Wrong."""
    hidden = hide(stored)[1]
    try:
        return accepted_data(name, fill(_parsed(typed), hidden))
    except RecursionError:
        raise Wrong(_("It is nested too deep.")) from None
    except PlaceholderMoved as moved:
        text = _(
            "“%(text)s” at %(path)s: a hidden value can only stay where it was, whole, or be "
            "replaced by another one."
        )
        raise Wrong(text % {"text": moved.text[:100], "path": moved.path}) from None
    except DataRefused as refused:
        # The check saw the hidden values, so what it says may repeat them.
        why = one_line(_without(refused.why, hidden))
        raise Wrong(_("The check of this task refuses it: %(why)s") % {"why": why}) from None
    except InvalidTask as invalid:
        raise Wrong(_without(str(invalid), hidden)) from None


def digest(typed: str, version: str) -> str:
    """Proves that what is saved is what was looked at."""
    return hashlib.sha256(f"{version}\n{typed}".encode(errors="replace")).hexdigest()


def normal(typed: str) -> str:
    """Browsers send line ends of their own."""
    return typed.replace("\r\n", "\n")


def _parsed(typed: str) -> Any:
    try:
        return json.loads(typed, object_pairs_hook=_object, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        text = _("Line %(line)s, column %(column)s: this is not JSON (%(what)s).")
        values = {"line": error.lineno, "column": error.colno, "what": error.msg}
        raise Wrong(text % values) from None
    except ValueError as error:
        raise Wrong(_("This is not JSON: %(what)s.") % {"what": str(error)[:200]}) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _value in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Wrong(_("The key “%(key)s” stands twice in one object.") % {"key": twice[:100]})
    return found


def _no_number(name: str) -> Any:
    raise Wrong(_("%(name)s is no number that JSON has.") % {"name": name})


def _without(text: str, hidden: list[Hidden]) -> str:
    for one in hidden:
        for secret in _texts(one.value):
            text = text.replace(secret, MASK)
    return redact_text(text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str | int | float) and len(str(value)) >= _SHORTEST_SECRET:
        yield str(value)
