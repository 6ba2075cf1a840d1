"""The keys that handlers declare with ``search=``: written where they can be found by an index."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tasks.handlers import registry
from tasks.models import SearchKey, Task
from tasks.models.figures import SEARCH_VALUE_LENGTH

#: Of a list so many elements can be found.
MOST_ELEMENTS = 20
_CHUNK = 2000


def write(using: str, tasks: Iterable[Task]) -> None:
    """Make ``tasks``, just inserted, findable; nothing for handlers that declare no keys."""
    rows = [row for task in tasks for row in _rows(task)]
    if rows:
        SearchKey.objects.using(using).bulk_create(rows, batch_size=_CHUNK)


def renew(using: str, tasks: Sequence[Task]) -> None:
    """Bring what is found of saved ``tasks`` up to their data, in the caller's transaction."""
    SearchKey.objects.using(using).filter(task__in=[task.pk for task in tasks]).delete()
    write(using, tasks)


def as_text(value: Any) -> str | None:
    """What a value of the data is found by; None for what is not found (objects, null)."""
    if isinstance(value, str):
        return value[:SEARCH_VALUE_LENGTH]
    if isinstance(value, bool | int | float):
        return json.dumps(value)[:SEARCH_VALUE_LENGTH]
    return None


def _rows(task: Task) -> Iterator[SearchKey]:
    known = registry.get(task.name)
    for key in known.search if known else ():
        texts = dict.fromkeys(map(as_text, _values(task.data, key.split("."))))
        for text in texts:
            if text:
                yield SearchKey(task=task, key=key, value=text)


def _values(data: Any, path: Sequence[str]) -> list[Any]:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data[:MOST_ELEMENTS] if isinstance(data, list) else [data]
