"""What a story is made of: one entry for each thing that happened, as text for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.safestring import SafeString
from django.utils.text import Truncator

from tasks.dashboard.display import pretty, time_html
from tasks.models import Task, TaskEvent
from tasks.redact import redact_text

LONGEST_SENTENCE = 300


@dataclass(frozen=True, kw_only=True)
class Change:
    """One value that staff changed: ``before`` is None where there was none, ``after`` where it
    was removed."""

    path: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing that happened. ``id`` is its element's, ``look`` a state or "person"."""

    id: str
    at: datetime
    look: str
    icon: str
    sentence: str
    who: str = ""
    task: Task | None = None
    small: Sequence[str] = ()
    said: str = ""
    message: str = ""
    traceback: str = ""
    changes: Sequence[Change] = ()
    event: TaskEvent | None = None

    @property
    def time(self) -> SafeString:
        """When, for the page."""
        return time_html(self.at)


@dataclass(frozen=True)
class Story:
    """Entries, the oldest first; ``is_cut`` when older ones were left out."""

    entries: list[Entry] = field(default_factory=list)
    is_cut: bool = False


def one_sentence(text: str) -> str:
    """``text`` redacted, on one line, cut when long."""
    line = " ".join(redact_text(text).split())
    return Truncator(line).chars(LONGEST_SENTENCE)


def changes(difference: Any) -> list[Change]:
    """What ``tasks.difference`` wrote; anything else is not shown."""
    rows: Iterable[Any] = difference if isinstance(difference, list) else ()
    return [
        Change(
            path=str(row.get("path", "")),
            before=pretty(row["before"]) if "before" in row else None,
            after=pretty(row["after"]) if "after" in row else None,
        )
        for row in rows
        if isinstance(row, dict)
    ]
