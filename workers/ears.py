"""Hearing rings where there is no session: a thread listens on the Channels layer."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tasks.bell import GROUP
from tasks.layer import GOODBYE, crossing_layer, follow
from workers import log


class Ears:
    """Hears what is rung for ``using`` on the default channel layer, whatever becomes of it.

    Without an answer from the layer it tries again and again, and the worker polls. ``rung`` and
    ``fileno`` are those of a session.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self.hears = False
        self._heard: deque[str] = deque()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._listening: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="ears", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """For a selector: readable when somebody rang."""
        return self._read

    def rung(self) -> list[str]:
        """Queue names rung since the last call; "" for the timer, "*" for any."""
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
        heard: list[str] = []
        while self._heard:
            heard.append(self._heard.popleft())
        return heard

    def close(self) -> None:
        """Leave the group and end the thread; gives up on a server that does not answer."""
        self._closed = True
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(3 * GOODBYE)
        if not self._thread.is_alive():
            os.close(self._read)
            os.close(self._write)

    def _stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._listening = self._loop.create_task(self._listen())
        if self._closed:
            self._listening.cancel()
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._listening)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _listen(self) -> None:
        await follow(GROUP, self._understand, hears=self._set_hears, lost=log.ears_lost)

    def _set_hears(self, hears: bool) -> None:
        self.hears = hears
        if hears:
            # What was rung before this moment was not for our ears.
            self._hear(["*"])

    def _understand(self, message: Any) -> None:
        if isinstance(message, Mapping) and message.get("using") == self.using:
            self._hear([str(queue) for queue in message.get("queues") or ["*"]])

    def _hear(self, queues: list[str]) -> None:
        self._heard.extend(queues)
        with suppress(BlockingIOError):
            os.write(self._write, b"!")


def open_ears(using: str) -> Ears | None:
    """Ears for workers of ``using``; None where no channel layer crosses processes."""
    try:
        layer = crossing_layer()
    except Exception as error:
        log.ears_useless(error)
        return None
    return None if layer is None else Ears(using)
