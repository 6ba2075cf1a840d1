"""Telling open pages after a commit how much changed in which queues, and no more than that.

Wherever it can be the Channels layer carries it, else PostgreSQL's NOTIFY. Where neither reaches
the web process, that one looks each second while somebody watches.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Literal

from django.core.signals import setting_changed
from django.db import connections

from tasks.after_commit import call_after_commit
from tasks.bell import NOTIFY
from tasks.conf import aftersave_settings
from tasks.layer import crossing_layer
from tasks.sender import sender

logger = logging.getLogger(__name__)

Way = Literal["redis", "postgresql", "look"]
CHANNEL = "aftersave_pages"
GROUP = "aftersave.pages"
#: Stands for all queues: something changed that may concern every page.
ANY = "*"
#: A process tells pages of one queue at most once in so many seconds.
SILENCE = 0.1
#: And where more than ``MANY`` changes are held back, only so often.
STEADY = 0.25
MANY = 10
#: Where a process does not come back for what it held back, as a web process does not, who heard
#: it looks once more after so many seconds.
LOOK_AGAIN = 0.15
_LONGEST_PAYLOAD = 7000
_MOST_REMEMBERED = 1000

Hearer = Callable[[str, Mapping[str, int]], None]
#: The pages that this very process serves hear it at once, from any thread.
hearers: list[Hearer] = []


def changed_after_commit(using: str, queues: Iterable[str]) -> None:
    """Tell pages, once ``using``'s transaction commits, that a task changed in each of ``queues``.

    A queue may come several times. Nothing raises into the host.
    """
    news = Counter(queues)
    if news:
        call_after_commit(using, changed, news)


def changed(using: str, changes: Mapping[str, int]) -> None:
    """Tell pages of committed changes: how many, by queue. Never raises, never waits for Redis.

    What is held back for the moment goes with the next telling, or with ``tell_rest``.
    """
    if not changes:
        return
    try:
        for hear in hearers:
            hear(using, changes)
        _bell(using).tell(changes)
    except Exception:
        logger.warning("Telling pages of %r what changed failed.", using, exc_info=True)


def rest_due_at(using: str) -> float | None:
    """When ``tell_rest`` has something to do (time.monotonic()), None if nothing is held back."""
    return _bell(using).rest_due_at()


def tell_rest(using: str) -> None:
    """Tell what was held back, if its time has come. Who calls this promises to do so again."""
    try:
        _bell(using).tell_rest()
    except Exception:
        logger.warning("Telling pages of %r what changed failed.", using, exc_info=True)


def way(using: str) -> Way:
    """How pages of this database hear of changes in other processes."""
    if _layer_crosses():
        return "redis"
    if connections[using].vendor == "postgresql" and aftersave_settings.session_alias(using):
        return "postgresql"
    return "look"


@cache
def _layer_crosses() -> bool:
    try:
        return crossing_layer() is not None
    except Exception:
        logger.warning("The channel layer cannot be used; pages do without.", exc_info=True)
        return False


class _Bell:
    """What this process has to tell the pages of one database."""

    group = GROUP

    def __init__(self, using: str) -> None:
        self.using = using
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._told_at: dict[str, float] = {}
        self._last = -STEADY
        self._is_patient = False

    def tell(self, changes: Mapping[str, int]) -> None:
        by = way(self.using)
        if by == "look":
            return
        with self._lock:
            self._held.update(changes)
        if by == "redis":
            sender.wake(self)
        elif self._is_time(changes):
            self._notify(self.take())

    def _is_time(self, changes: Iterable[str]) -> bool:
        now = time.monotonic()
        if self._is_patient:
            return self.due_at() <= now
        # Nobody comes back for the rest: each queue is told of at once.
        return any(now - self._told_at.get(queue, -SILENCE) >= SILENCE for queue in changes)

    def due_at(self) -> float:
        """When what is held is to be told: soon, but that much goes on somewhere can wait."""
        with self._lock:
            if not self._held:
                return math.inf
            news = {queue: count for queue, count in self._held.items() if count <= MANY}
            if len(news) > MANY:
                return self._last + SILENCE
            soonest = min((self._told_at.get(queue, -STEADY) for queue in news), default=math.inf)
            return min(max(self._last, soonest) + SILENCE, self._last + STEADY)

    def take(self) -> dict[str, int]:
        """What is to be told; it is done with then."""
        now = time.monotonic()
        with self._lock:
            held, self._held = dict(self._held), Counter()
            if len(self._told_at) > _MOST_REMEMBERED:
                self._told_at.clear()
            self._told_at.update(dict.fromkeys(held, now))
            self._last = now
        return held

    def put_back(self, changes: Mapping[str, int]) -> None:
        """They could not be told."""
        with self._lock:
            self._held.update(changes)

    def message(self, changes: Mapping[str, int]) -> dict[str, Any]:
        """For the Channels layer."""
        return {"type": "aftersave.changed", "using": self.using, "changes": changes}

    def tell_rest(self) -> None:
        self._is_patient = True
        if way(self.using) == "postgresql" and self.due_at() <= time.monotonic():
            self._notify(self.take())

    def rest_due_at(self) -> float | None:
        self._is_patient = True
        return self.due_at() if self._held and way(self.using) == "postgresql" else None

    def _notify(self, changes: dict[str, int]) -> None:
        if not changes:
            return
        again = not self._is_patient
        payload = json.dumps({"changes": changes, "again": again})
        if len(payload.encode()) > _LONGEST_PAYLOAD:
            payload = json.dumps({"changes": {ANY: sum(changes.values())}, "again": again})
        with connections[self.using].cursor() as cursor:
            cursor.execute(NOTIFY, [CHANNEL, payload])


_bells: dict[str, _Bell] = {}


# In a forked child nobody frees a lock that another thread of the parent held.
os.register_at_fork(after_in_child=lambda: _bells.clear())


def _bell(using: str) -> _Bell:
    return _bells.get(using) or _bells.setdefault(using, _Bell(using))


def _forget_layer(*, setting: str, **kwargs: Any) -> None:
    if setting == "CHANNEL_LAYERS":
        _layer_crosses.cache_clear()


setting_changed.connect(_forget_layer, dispatch_uid="aftersave.page_bell")
