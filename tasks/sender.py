"""Sends news through the Channels layer in a thread: nobody waits for its server."""

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
    """Who has news for a group: they are taken when they are sent, not when they happen."""

    group: str

    def due_at(self) -> float: ...  # time.monotonic()
    def take(self) -> dict[str, int]: ...
    def put_back(self, changes: Mapping[str, int]) -> None: ...
    def message(self, changes: Mapping[str, int]) -> dict[str, Any]: ...


class Sender:
    """Starts its thread at the first news of a process, also of a forked one.

    A source is in line once, however much news it has, and the sources take turns. So a server
    that does not answer piles nothing up: what happens meanwhile goes with the next message.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = 0
        self._closing = False
        atexit.register(self.finish)
        os.register_at_fork(after_in_child=self._forget)

    def wake(self, source: Source) -> None:
        """Send what ``source`` has, at once or in a moment; any thread."""
        if self._process != os.getpid():
            with self._lock:
                if self._process != os.getpid():
                    self._start()
        self._waiting[source] = None
        if self._time_of(source) < self._awake_at:
            self._news.set()

    def _forget(self) -> None:
        """In a forked child: its thread is not there, whoever held the lock neither."""
        self._lock = threading.Lock()
        self._process = 0
        self._closing = False

    def _start(self) -> None:
        self._news = threading.Event()
        self._waiting: dict[Source, None] = {}
        self._layer: Any = None
        self._configs: Any = None  # by which it was made
        self._pause = FIRST_PAUSE
        self._not_before = 0.0
        self._awake_at = math.inf
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()
        self._process = os.getpid()

    def finish(self) -> None:
        """At the end of the process: a short one must not end before its news are told."""
        if self._process == os.getpid():
            self._closing = True
            self._news.set()
            self._thread.join(GOODBYE)
            if self._thread.is_alive():
                logger.warning("The channel layer takes no news; the last are not told.")

    def _run(self) -> None:
        loop = asyncio.new_event_loop()
        while self._waiting or not self._closing:
            self._sleep()
            for source in list(self._waiting):
                if self._time_of(source) <= time.monotonic() or self._closing:
                    del self._waiting[source]
                    self._try_to_send(loop, source)

    def _time_of(self, source: Source) -> float:
        return max(source.due_at(), self._not_before)

    def _sleep(self) -> None:
        """Until news come, or until those are due that wait."""
        # Whoever comes while this is found out wakes us.
        self._awake_at = math.inf
        times = [self._time_of(source) for source in list(self._waiting)]
        self._awake_at = min(times, default=math.inf)
        wait = self._awake_at - time.monotonic()
        if not self._closing and wait > 0:
            self._news.wait(None if math.isinf(wait) else wait)
            self._news.clear()

    def _try_to_send(self, loop: asyncio.AbstractEventLoop, source: Source) -> None:
        changes = source.take()
        try:
            loop.run_until_complete(self._send(self._current_layer(), source, changes))
            self._pause = FIRST_PAUSE
        # What a layer raises is anybody's guess.
        except Exception as error:
            self._layer = None
            kind = f"{type(error).__name__}: {error}"
            if self._closing:
                logger.warning("The channel layer takes no news (%s); they are not told.", kind)
            else:
                self._try_again(source, changes, kind)

    def _current_layer(self) -> Any:
        """The layer of the settings as they are now: tests change them in a running process."""
        from channels.layers import channel_layers

        configs = channel_layers.configs
        if self._layer is None or self._configs is not configs:
            self._layer, self._configs = layer_of_our_own(), configs
        return self._layer

    def _try_again(self, source: Source, changes: Mapping[str, int], why: str) -> None:
        source.put_back(changes)
        self._waiting[source] = None
        self._not_before = time.monotonic() + self._pause
        logger.warning("The channel layer takes no news (%s); again in %.1f s.", why, self._pause)
        self._pause = min(LONGEST_PAUSE, self._pause * 2)

    async def _send(self, layer: Any, source: Source, changes: Mapping[str, int]) -> None:
        if changes:
            async with asyncio.timeout(PATIENCE):
                await layer.group_send(source.group, source.message(changes))


#: One thread of a process for all its news.
sender = Sender()
