"""Sends news to a group of the Channels layer in a thread: nobody waits for its server."""

from __future__ import annotations

import asyncio
import atexit
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, Protocol

from tasks.layer import GOODBYE, PATIENCE, layer_of_our_own

logger = logging.getLogger(__name__)

#: After the first failure, in seconds.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


class Source(Protocol):
    """Who has news: they are taken when they are sent, not when they happen."""

    def due_at(self) -> float: ...  # time.monotonic()
    def take(self) -> dict[str, int]: ...
    def put_back(self, changes: Mapping[str, int]) -> None: ...
    def message(self, changes: Mapping[str, int]) -> dict[str, Any]: ...


class Sender:
    """Starts its thread at the first news of a process, also of a forked one."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._lock = threading.Lock()
        self._process = 0
        self._closing = False
        atexit.register(self.finish)

    def wake(self, source: Source) -> None:
        """Send what ``source`` has, at once or in a moment; any thread."""
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._start()
        self._waiting[source] = None
        if source.due_at() < self._awake_at:
            self._news.set()

    def _start(self) -> None:
        self._news = threading.Event()
        self._waiting: dict[Source, None] = {}
        self._layer: Any = None
        self._pause = FIRST_PAUSE
        self._not_before = 0.0
        self._awake_at = math.inf
        self._thread = threading.Thread(target=self._run, name="page bell", daemon=True)
        self._thread.start()
        self._process = os.getpid()

    def finish(self) -> None:
        """At the end of the process: a short one must not end before its news are told."""
        if self._process == os.getpid():
            self._closing = True
            self._news.set()
            self._thread.join(GOODBYE)

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        while self._waiting or not self._closing:
            self._sleep()
            for source in list(self._waiting):
                if source.due_at() <= time.monotonic() or self._closing:
                    del self._waiting[source]
                    self._try_to_send(loop, source)

    def _sleep(self) -> None:
        """Until news come, or until those are due that wait."""
        # Whoever comes while this is found out wakes us.
        self._awake_at = math.inf
        due_at = min((source.due_at() for source in list(self._waiting)), default=math.inf)
        self._awake_at = max(due_at, self._not_before)
        wait = self._awake_at - time.monotonic()
        if not self._closing and wait > 0:
            self._news.wait(None if math.isinf(wait) else wait)
            self._news.clear()

    def _try_to_send(self, loop: asyncio.AbstractEventLoop, source: Source) -> None:
        changes = source.take()
        try:
            self._layer = self._layer or layer_of_our_own()
            loop.run_until_complete(self._send(self._layer, source, changes))
            self._pause = FIRST_PAUSE
        # What a layer raises is anybody's guess.
        except Exception as error:
            self._layer = None
            if not self._closing:
                source.put_back(changes)
                self._waiting[source] = None
                self._not_before = time.monotonic() + self._pause
                _complain(error, self._pause)
                self._pause = min(LONGEST_PAUSE, self._pause * 2)

    async def _send(self, layer: Any, source: Source, changes: Mapping[str, int]) -> None:
        if changes:
            async with asyncio.timeout(PATIENCE):
                await layer.group_send(self.group, source.message(changes))


def _complain(error: Exception, pause: float) -> None:
    kind = type(error).__name__
    logger.warning("The channel layer takes no news (%s: %s); again in %.1f s.", kind, error, pause)
