"""The Channels layer, where it reaches other processes: following a group, whatever happens."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

#: Membership of a group expires (a day with channels_redis), and a server that was emptied forgets
#: it: it is renewed this often, in seconds. A server that hangs is noticed by nothing else where
#: the host sets no ``socket_timeout``.
RENEW_EVERY = 2.0
RENEWED_WITHIN = 3.0
#: When it is spoken to for the first time, the server gets so many seconds to answer.
PATIENCE = 10.0
#: Whoever waits for a message asks again after so many.
RECEIVE_FOR = 2
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
GOODBYE = 1.0


def crossing_layer() -> Any | None:
    """The default channel layer if it reaches other processes, else None."""
    from channels.layers import InMemoryChannelLayer, get_channel_layer

    layer = get_channel_layer()
    return None if layer is None or isinstance(layer, InMemoryChannelLayer) else layer


def layer_of_our_own() -> Any:
    """A layer may receive on one event loop only, and the host uses its own on others."""
    from channels import DEFAULT_CHANNEL_LAYER
    from channels.layers import channel_layers

    layer = channel_layers.make_backend(DEFAULT_CHANNEL_LAYER)
    # channels_redis waits five seconds for a message, and redis-py 8 at most five for an answer:
    # where nothing happens that one came first as often as not, and the group was lost.
    if hasattr(layer, "brpop_timeout"):
        layer.brpop_timeout = RECEIVE_FOR
    return layer


async def follow(
    group: str,
    hear: Callable[[Any], None],
    *,
    hears: Callable[[bool], None],
    lost: Callable[[Exception, float], None],
) -> None:
    """Give every message for ``group`` to ``hear`` until cancelled.

    ``hears`` is told when the group is joined and left, ``lost`` of what went wrong and how many
    seconds later it is tried again.
    """
    pause = FIRST_PAUSE
    while True:
        began = time.monotonic()
        try:
            await _follow_once(group, hear, hears)
        # What a layer raises is anybody's guess.
        except Exception as error:
            _obey_cancellation()
            pause = FIRST_PAUSE if time.monotonic() - began > pause else pause * 2
            pause = min(LONGEST_PAUSE, pause) * random.uniform(0.5, 1.0)
            lost(error, pause)
            await asyncio.sleep(pause)


async def _follow_once(
    group: str, hear: Callable[[Any], None], hears: Callable[[bool], None]
) -> None:
    layer = layer_of_our_own()
    channel = await layer.new_channel()
    receiving: asyncio.Task[Any] | None = None
    try:
        await _join(layer, group, channel, PATIENCE)
        hears(True)
        renew_at = time.monotonic() + _renewal(layer)
        while True:
            receiving = receiving or asyncio.create_task(layer.receive(channel))
            await asyncio.wait({receiving}, timeout=renew_at - time.monotonic())
            if receiving.done():
                hear(receiving.result())
                receiving = None
            if time.monotonic() >= renew_at:
                await _join(layer, group, channel, RENEWED_WITHIN)
                renew_at = time.monotonic() + _renewal(layer)
    finally:
        hears(False)
        await _end(receiving)
        await _leave(layer, group, channel)


def _renewal(layer: Any) -> float:
    return min(RENEW_EVERY, getattr(layer, "group_expiry", RENEW_EVERY) / 2)


async def _join(layer: Any, group: str, channel: str, patience: float) -> None:
    async with asyncio.timeout(patience):
        await layer.group_add(group, channel)
    _obey_cancellation()


def _obey_cancellation() -> None:
    """redis-py may raise a timeout in its place, most of all while it connects."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _end(receiving: asyncio.Task[Any] | None) -> None:
    # Again and again: a cancellation may be lost inside the layer.
    while receiving is not None and not receiving.done():
        receiving.cancel()
        await asyncio.wait({receiving}, timeout=0.1)
    if receiving is not None and not receiving.cancelled():
        receiving.exception()  # else asyncio complains that nobody asked for it


async def _leave(layer: Any, group: str, channel: str) -> None:
    with suppress(Exception):
        async with asyncio.timeout(GOODBYE):
            await layer.group_discard(group, channel)
    with suppress(Exception):
        async with asyncio.timeout(GOODBYE):
            await layer.close_pools()
