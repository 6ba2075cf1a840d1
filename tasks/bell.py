"""Ringing workers after a commit. A ring has no content to trust: the database is the truth."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connections

from tasks.after_commit import call_after_commit
from tasks.conf import aftersave_settings
from tasks.layer import crossing_layer
from tasks.sender import sender

logger = logging.getLogger(__name__)

CHANNEL = "aftersave_work"
GROUP = "aftersave.work"
#: After a ring for a queue this process stays silent about it for so many seconds.
SILENCE = 0.020
#: So a worker that heard a ring looks once more after this many seconds.
LOOK_AGAIN = 0.025
#: Without waiting for the disk: what must not be lost was committed before.
NOTIFY = "SELECT pg_notify(%s, %s), set_config('synchronous_commit', 'off', true)"
#: Stands for all queues.
ANY = "*"
_LONGEST_PAYLOAD = 7000
_MOST_NAMED = 100

_last_rung: dict[tuple[str, str], float] = {}


def ring_after_commit(using: str, queues: Iterable[str]) -> None:
    """Tell workers of ``using``, once its transaction commits, that ``queues`` have due work.

    No queue: a task becomes due soon, look at the clock again. Nothing raises into the host.
    """
    call_after_commit(using, ring, set(queues) or {""})


def ring(using: str, queues: Iterable[str]) -> None:
    """Ring now, outside any transaction. Fails silently: polling finds the work a moment later."""
    now = time.monotonic()
    loud = [q for q in queues if now - _last_rung.get((using, q), -1.0) >= SILENCE]
    if not loud:
        return
    _last_rung.update({(using, queue): now for queue in loud})
    try:
        _send(using, loud)
    except Exception:
        logger.warning("Ringing the workers of %r failed; they poll.", using, exc_info=True)


def _send(using: str, queues: list[str]) -> None:
    connection = connections[using]
    if connection.vendor == "postgresql" and aftersave_settings.session_alias(using):
        payload = ",".join(queues)
        if len(payload.encode()) > _LONGEST_PAYLOAD:
            payload = ANY
        with connection.cursor() as cursor:
            cursor.execute(NOTIFY, [CHANNEL, payload])
        return
    if crossing_layer() is not None:
        _ring(using).add(queues)


def connection_to_listen(alias: str, purpose: str) -> Any:
    """A connection like those of ``alias``, not yet open, that belongs to whoever asks alone."""
    wrapper = connections[alias].copy(alias=f"{alias}-{purpose}")
    # Django's pool would open others beside it, and keep it with its locks when it is closed.
    wrapper.settings_dict["OPTIONS"].pop("pool", None)
    return wrapper


class _Ring:
    """What is still to be rung for one database: queues, however often each was named."""

    group = GROUP

    def __init__(self, using: str) -> None:
        self.using = using
        self._lock = threading.Lock()
        self._queues: dict[str, int] = {}

    def add(self, queues: Iterable[str]) -> None:
        """Ring for these too, at once where the server of the Channels layer answers."""
        self.put_back(dict.fromkeys(queues, 1))
        sender.wake(self)

    def due_at(self) -> float:
        return -math.inf if self._queues else math.inf

    def take(self) -> dict[str, int]:
        with self._lock:
            queues, self._queues = self._queues, {}
        return queues

    def put_back(self, changes: Mapping[str, int]) -> None:
        with self._lock:
            self._queues.update(changes)
            if len(self._queues) > _MOST_NAMED:
                self._queues = {ANY: 1}

    def message(self, changes: Mapping[str, int]) -> dict[str, Any]:
        return {"type": "aftersave.ring", "using": self.using, "queues": list(changes)}


_rings: dict[str, _Ring] = {}
# In a forked child nobody frees a lock that another thread of the parent held.
os.register_at_fork(after_in_child=lambda: _rings.clear())


def _ring(using: str) -> _Ring:
    return _rings.get(using) or _rings.setdefault(using, _Ring(using))
