import asyncio
import gc
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.core import RedisChannelLayer

from tasks import bell, layer
from tasks.models import Queue, State, Task, Worker
from tests.services.host import Host
from tests.services.redis import Redis
from tests.services.waiting import wait_for
from workers.ears import Ears, open_ears
from workers.membership import Membership

#: Looks so seldom that only a ring can wake it.
SELDOM = """
import django; django.setup()
import workers.runner as r
import workers.timekeeper as t
t.LOOK_EVERY = t.FIRST_POLL = 600.0
r.Runner(r.Options(threads=1, coroutines=0)).run()
"""


@pytest.fixture
def open_ear(redis_layer: None) -> Iterator[Callable[[str], Ears]]:
    opened: list[Ears] = []

    def open_one(using: str) -> Ears:
        ears = open_ears(using)
        assert ears is not None
        opened.append(ears)
        # It says that it hears before it has rung for what was missed.
        wait_for(lambda: readable(ears), what="the group")
        assert ears.hears
        assert ears.rung() == ["*"]
        return ears

    yield open_one
    for ears in opened:
        ears.close()


def ring(using: str, queues: list[str]) -> None:
    message = {"type": "aftersave.ring", "using": using, "queues": queues}
    async_to_sync(get_channel_layer().group_send)(bell.GROUP, message)


def heard_by(ears: Ears, count: int = 1) -> list[str]:
    heard: list[str] = []

    def enough() -> bool:
        heard.extend(ears.rung())
        return len(heard) >= count

    wait_for(enough, what=f"{count} rings")
    return heard


def readable(ears: Ears, seconds: float = 0.0) -> bool:
    return bool(select.select([ears], [], [], seconds)[0])


def members(redis_url: str) -> set[bytes]:
    with redis.Redis.from_url(redis_url) as server:
        return set(server.zrange(f"asgi:group:{bell.GROUP}", 0, -1))


def test_a_ring_is_heard_and_wakes_whoever_selects(open_ear: Callable[[str], Ears]) -> None:
    ears = open_ear("default")
    assert not readable(ears)
    ring("default", ["a", "b"])
    assert readable(ears, 5)
    assert heard_by(ears, 2) == ["a", "b"]
    assert not readable(ears)
    assert ears.rung() == []


def test_the_bell_of_a_database_without_notify_is_heard(
    open_ear: Callable[[str], Ears], settings: Any
) -> None:
    ears = open_ear("default")
    ring("default", [""])
    assert heard_by(ears) == [""]


def test_rings_of_another_database_are_not_for_us(open_ear: Callable[[str], Ears]) -> None:
    here, other = open_ear("default"), open_ear("other")
    ring("other", ["a"])
    assert heard_by(other) == ["a"]
    ring("default", ["b"])
    assert heard_by(here) == ["b"]


def test_a_message_without_sense_does_no_harm(open_ear: Callable[[str], Ears]) -> None:
    ears = open_ear("default")
    group_send = async_to_sync(get_channel_layer().group_send)
    group_send(bell.GROUP, {"type": "aftersave.ring"})
    group_send(bell.GROUP, {"using": "default", "queues": None})
    wait_for(lambda: "*" in ears.rung(), what="the ring without a queue")
    group_send(bell.GROUP, {"using": "default", "queues": 7})
    wait_for(lambda: "*" in ears.rung(), what="a new beginning")
    ring("default", ["a"])
    assert heard_by(ears) == ["a"]


def test_membership_is_renewed_before_it_expires(
    open_ear: Callable[[str], Ears], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer, "RENEW_EVERY", 0.05)
    ears = open_ear("default")
    # The server forgets everything, as if the membership had expired.
    async_to_sync(get_channel_layer().flush)()

    def heard() -> bool:
        ring("default", ["a"])
        return "a" in ears.rung()

    wait_for(heard, every=0.1, what="a ring after the renewal")


@pytest.mark.parametrize("patience", [None, 4])
def test_a_server_that_hangs_is_noticed_however_long_the_hosts_client_would_wait(
    open_ear: Callable[[str], Ears],
    settings: Any,
    redis_server: Redis,
    caplog: pytest.LogCaptureFixture,
    patience: float | None,
) -> None:
    """Before redis-py 8 a client waited for ever."""
    hosts = [{"address": redis_server.url, "socket_timeout": patience}]
    settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"] = hosts
    ears = open_ear("default")
    redis_server.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: not ears.hears, timeout=10, what="the loss")
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    wait_for(lambda: ears.hears, what="another group")
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_client_that_waits_three_seconds_for_an_answer_does_not_lose_a_silent_group(
    open_ear: Callable[[str], Ears],
    settings: Any,
    redis_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Five, the default of redis-py 8, is as long as channels_redis waits: chance would decide."""
    hosts = [f"{redis_url}?socket_timeout=3"]
    settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"] = hosts
    ears = open_ear("default")
    assert not readable(ears, 4)
    assert ears.hears
    assert not caplog.text


def test_a_server_that_restarts_is_found_again(
    open_ear: Callable[[str], Ears], redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    ears = open_ear("default")
    redis_server.stop()
    wait_for(lambda: not ears.hears, what="the loss")
    redis_server.start()
    wait_for(lambda: ears.hears, timeout=20, what="the server")
    # What was rung meanwhile is not known, so every queue is to be looked at.
    assert heard_by(ears) == ["*"]
    ring("default", ["a"])
    assert heard_by(ears) == ["a"]
    assert "The channel layer does not answer" in caplog.text


def test_without_a_server_ears_wait_for_one_and_close_at_once(
    redis_layer: None, redis_server: Redis
) -> None:
    redis_server.stop()
    ears = open_ears("default")
    assert ears is not None
    assert not ears.hears
    assert ears.rung() == []
    ears.close()
    assert "ears" not in {thread.name for thread in threading.enumerate()}


def test_closing_leaves_no_thread_no_descriptor_and_no_member(
    redis_layer: None, redis_url: str
) -> None:
    others = members(redis_url)
    before = len(os.listdir("/proc/self/fd"))
    ears = open_ears("default")
    assert ears is not None
    wait_for(lambda: ears.hears, what="the group")
    assert len(members(redis_url) - others) == 1
    ears.close()
    assert "ears" not in {thread.name for thread in threading.enumerate()}
    assert len(os.listdir("/proc/self/fd")) <= before
    assert members(redis_url) <= others


class _Deaf(RedisChannelLayer):
    """Ends a cancelled ``group_add`` as redis-py sometimes does."""

    joins = 0
    raises = True

    async def group_add(self, group: str, channel: str) -> None:
        type(self).joins += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if self.raises:
                raise redis.TimeoutError("Timeout reading") from None


@pytest.mark.parametrize("raises", [True, False])
def test_a_cancellation_that_the_layer_loses_ends_them_all_the_same(
    raises: bool, redis_layer: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings.CHANNEL_LAYERS["default"]["CONFIG"]
    backend = f"{__name__}._Deaf"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
    monkeypatch.setattr(_Deaf, "raises", raises)
    monkeypatch.setattr(_Deaf, "joins", 0)
    ears = open_ears("default")
    assert ears is not None
    wait_for(lambda: _Deaf.joins, what="ears that join")
    ears.close()
    assert "ears" not in {thread.name for thread in threading.enumerate()}
    assert _Deaf.joins == 1


def test_a_layer_that_stays_in_its_process_gives_no_ears(settings: Any) -> None:
    memory = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    broken = {"default": {"BACKEND": "no.such.Layer"}}
    for layers in (memory, broken, {}):
        settings.CHANNEL_LAYERS = layers
        assert open_ears("default") is None


def test_a_worker_without_a_session_gets_ears_once(
    redis_layer: None, settings: Any, django_db_blocker: Any
) -> None:
    settings.AFTERSAVE = {"SESSION_ALIAS": None}
    member = Membership("default", [], 1, 0)
    member.open_session()
    try:
        ears = member.ears
        assert ears is not None
        assert member.ear is ears
        wait_for(lambda: member.hears, what="the group")
        member.open_session()
        assert member.ears is ears
    finally:
        member.close()
    assert member.ear is None


def test_a_task_of_another_process_starts_long_before_the_next_look(
    sqlite_host: Host, redis_url: str
) -> None:
    sqlite_host.env["REDIS_URL"] = redis_url
    Queue.objects.create(name="default")
    worker = sqlite_host.start([sys.executable, "-c", SELDOM])
    wait_for(lambda: Worker.objects.exists(), timeout=20, what="the worker")
    code = "from tasks import enqueue; enqueue('work.noop')"
    sqlite_host.shell(code)
    sqlite_host.shell(code)

    def done() -> bool:
        assert worker.poll() is None, worker.output()
        return Task.objects.filter(state=State.COMPLETED).count() == 2

    wait_for(done, timeout=10, what="the tasks")
