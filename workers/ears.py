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
_FORGET_AFTER = 2.0


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
        self._thread.join(2 * _FORGET_AFTER)
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
            # A group of them, and what a layer raises is anybody's guess.
            except Exception as error:
                self.hears = False
                pause = FIRST_PAUSE if time.monotonic() - began > pause else pause * 2
                pause = min(LONGEST_PAUSE, pause) * random.uniform(0.5, 1.0)
                log.ears_lost(_first_cause(error), pause)
                await asyncio.sleep(pause)

    async def _listen_once(self) -> None:
        layer = _layer_of_our_own()
        channel = await layer.new_channel()
        try:
            async with asyncio.timeout(PATIENCE):
                await layer.group_add(GROUP, channel)
            self.hears = True
            # What was rung before this moment was not for our ears.
            self._hear(["*"])
            async with asyncio.TaskGroup() as group:
                group.create_task(_renew(layer, channel))
                group.create_task(self._receive(layer, channel))
        except asyncio.CancelledError:
            with suppress(Exception):
                async with asyncio.timeout(_FORGET_AFTER):
                    await layer.group_discard(GROUP, channel)
            raise
        finally:
            with suppress(Exception):
                async with asyncio.timeout(_FORGET_AFTER):
                    await layer.close_pools()

    async def _receive(self, layer: Any, channel: str) -> None:
        while True:
            message = await layer.receive(channel)
            if isinstance(message, Mapping) and message.get("using") == self.using:
                self._hear([str(queue) for queue in message.get("queues") or ["*"]])

    def _hear(self, queues: list[str]) -> None:
        self._heard.extend(queues)
        with suppress(BlockingIOError):
            os.write(self._write, b"!")


async def _renew(layer: Any, channel: str) -> None:
    while True:
        await asyncio.sleep(min(RENEW_EVERY, getattr(layer, "group_expiry", RENEW_EVERY) / 2))
        async with asyncio.timeout(PATIENCE):
            await layer.group_add(GROUP, channel)


def _layer_of_our_own() -> Any:
    """A layer may receive on one event loop only, and handlers may use the host's."""
    from channels import DEFAULT_CHANNEL_LAYER
    from channels.layers import channel_layers

    return channel_layers.make_backend(DEFAULT_CHANNEL_LAYER)


def _first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def open_ears(using: str) -> Ears | None:
    """Ears for workers of ``using``; None where no channel layer crosses processes."""
    try:
        layer = crossing_layer()
    except Exception as error:
        log.ears_useless(error)
        return None
    return None if layer is None else Ears(using)
