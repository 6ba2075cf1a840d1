"""Hearing rings where there is no session: a thread listens on the Channels layer."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tasks.bell import GROUP, crossing_layer
from workers import log

#: Membership of a group expires (a day with channels_redis), and a server that was emptied forgets
#: it: it is renewed this often, in seconds.
RENEW_EVERY = 60.0
#: The server gets so many seconds to answer.
PATIENCE = 10.0
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
_GOODBYE = 1.0


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
        self._thread.join(3 * _GOODBYE)
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
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._listen_once()
            # What a layer raises is anybody's guess.
            except Exception as error:
                pause = FIRST_PAUSE if time.monotonic() - began > pause else pause * 2
                pause = min(LONGEST_PAUSE, pause) * random.uniform(0.5, 1.0)
                log.ears_lost(error, pause)
                await asyncio.sleep(pause)

    async def _listen_once(self) -> None:
        layer = _layer_of_our_own()
        channel = await layer.new_channel()
        receiving: asyncio.Task[Any] | None = None
        try:
            await _join(layer, channel)
            self.hears = True
            # What was rung before this moment was not for our ears.
            self._hear(["*"])
            renew_at = time.monotonic() + _renewal(layer)
            while True:
                receiving = receiving or asyncio.create_task(layer.receive(channel))
                await asyncio.wait({receiving}, timeout=renew_at - time.monotonic())
                if receiving.done():
                    self._understand(receiving.result())
                    receiving = None
                if time.monotonic() >= renew_at:
                    await _join(layer, channel)
                    renew_at = time.monotonic() + _renewal(layer)
        finally:
            self.hears = False
            await _end(receiving)
            await _leave(layer, channel)

    def _understand(self, message: Any) -> None:
        if isinstance(message, Mapping) and message.get("using") == self.using:
            self._hear([str(queue) for queue in message.get("queues") or ["*"]])

    def _hear(self, queues: list[str]) -> None:
        self._heard.extend(queues)
        with suppress(BlockingIOError):
            os.write(self._write, b"!")


def _renewal(layer: Any) -> float:
    return min(RENEW_EVERY, getattr(layer, "group_expiry", RENEW_EVERY) / 2)


async def _join(layer: Any, channel: str) -> None:
    async with asyncio.timeout(PATIENCE):
        await layer.group_add(GROUP, channel)


async def _end(receiving: asyncio.Task[Any] | None) -> None:
    # Again and again: a cancellation may be lost inside the layer.
    while receiving is not None and not receiving.done():
        receiving.cancel()
        await asyncio.wait({receiving}, timeout=0.1)


async def _leave(layer: Any, channel: str) -> None:
    with suppress(Exception):
        async with asyncio.timeout(_GOODBYE):
            await layer.group_discard(GROUP, channel)
    with suppress(Exception):
        async with asyncio.timeout(_GOODBYE):
            await layer.close_pools()


def _layer_of_our_own() -> Any:
    """A layer may receive on one event loop only, and handlers may use the host's."""
    from channels import DEFAULT_CHANNEL_LAYER
    from channels.layers import channel_layers

    return channel_layers.make_backend(DEFAULT_CHANNEL_LAYER)


def open_ears(using: str) -> Ears | None:
    """Ears for workers of ``using``; None where no channel layer crosses processes."""
    try:
        layer = crossing_layer()
    except Exception as error:
        log.ears_useless(error)
        return None
    return None if layer is None else Ears(using)
