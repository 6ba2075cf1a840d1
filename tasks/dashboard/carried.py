"""What a task carries, loaded so that five megabytes of it neither break nor slow a page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import TextField
from django.db.models.functions import Cast, Left, Length
from django.utils.translation import gettext as _

from tasks.dashboard.display import pretty, with_note
from tasks.models import Task

#: Characters of JSON that are read of one value.
MOST_READ = 120_000

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+)')
_CLOSER = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class Carried:
    """Data, result and context of a task as text for people, redacted."""

    data: str = ""
    result: str = ""
    context: str = ""
    #: Whether the result is there at all: one may be ``0`` or an empty text.
    has_result: bool = False


def carried(task: Task) -> Carried:
    """What ``task`` carries."""
    return carried_by([task]).get(task.pk, Carried())


def carried_by(tasks: Sequence[Task]) -> dict[int, Carried]:
    """What ``tasks`` of one database carry, by task id; one query, of each value at most
    ``MOST_READ`` characters."""
    if not tasks:
        return {}
    texts = {f"{name}_text": Cast(name, TextField()) for name in ("data", "result", "context")}
    rows = Task.objects.using(tasks[0]._state.db).filter(pk__in=[task.pk for task in tasks])
    found = rows.order_by().values_list(
        "pk",
        *(Left(text, MOST_READ) for text in texts.values()),
        *(Length(text) for text in texts.values()),
    )
    return {pk: _carried(row[:3], row[3:]) for pk, *row in found}


def _carried(texts: Sequence[str | None], lengths: Sequence[int | None]) -> Carried:
    data, result, context = (_shown(*pair) for pair in zip(texts, lengths, strict=True))
    return Carried(data, result, context, has_result=texts[1] is not None)


def _shown(text: str | None, length: int | None) -> str:
    if text is None or text == "{}":
        return ""
    if (length or 0) <= len(text):
        return pretty(_parsed(text))
    return with_note(pretty(beginning(text)), (length or 0) - len(text))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        return _("(nested too deep to be shown)")


def beginning(text: str) -> Any:
    """The value of JSON that was cut off, as far as it goes: what is open at the end is closed.

    A text that was cut ends at its last space, so that no half secret escapes redaction.
    """
    open_ones: list[str] = []
    whole, closers, last = 0, "", ""
    at = 0
    while (found := _TOKEN.match(text, at)) and found.end() < len(text):
        token, before, at = found[1], last, found.end()
        last = token
        if token in _CLOSER:
            open_ones.append(token)
        elif token in ("}", "]"):
            open_ones.pop()
        elif token in (",", ":") or _is_key(open_ones, before):
            continue
        whole, closers = at, _closing(open_ones)
    rest = text[at:].lstrip()
    if rest.startswith('"') and not _is_key(open_ones, last):
        cut = rest.rpartition(" ")[0]
        return _parsed(f'{text[:at]}{cut or chr(34)}…"{_closing(open_ones)}')
    return _parsed(text[:whole] + closers) if whole else _("(too long to be shown)")


def _is_key(open_ones: list[str], before: str) -> bool:
    return bool(open_ones) and open_ones[-1] == "{" and before in ("{", ",")


def _closing(open_ones: list[str]) -> str:
    return "".join(_CLOSER[opener] for opener in reversed(open_ones))
