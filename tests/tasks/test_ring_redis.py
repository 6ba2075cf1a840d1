"""Ringing workers through Redis: a server that hangs holds nobody up, and rings come later."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from tasks import bell, enqueue
from tasks.dashboard.versions import versions
from tasks.layer import PATIENCE
from tasks.models import Task
from tasks.sender import sender
from tests.services.host import Host
from tests.services.redis import Redis
from tests.services.waiting import wait_for
from tests.tasks.admin_rows import button_of, failed, staff
from tests.tasks.tools import joined

#: Rings in a process and in a child that it forks, as a web server forks its workers.
FORKS = """
import os, time
from django.db import connections
from tasks import enqueue
enqueue("work.noop", queue="parent")
connections.close_all()
child = os.fork()
enqueue("work.noop", queue="parent again" if child else "child")
if child:
    os.waitpid(child, 0)
else:
    time.sleep(2)
    os._exit(0)
"""


@pytest.fixture
def redis_layer(redis_layer: None, settings: Any) -> None:
    # On PostgreSQL too.
    settings.AFTERSAVE = {**settings.AFTERSAVE, "SESSION_ALIAS": None}


@pytest.fixture
def channel(redis_layer: None) -> str:
    return joined(bell.GROUP)


@pytest.fixture
def hang(redis_server: Redis) -> Iterator[Callable[..., None]]:
    """Stops Redis, but not for longer than a test can wait."""
    timers: list[threading.Timer] = []

    def go_on() -> None:
        redis_server.process.send_signal(signal.SIGCONT)

    def stop(seconds: float = 8) -> None:
        redis_server.process.send_signal(signal.SIGSTOP)
        timers.append(threading.Timer(seconds, go_on))
        timers[0].start()

    yield stop
    for timer in timers:
        timer.cancel()
    go_on()


def heard(channel: str, *queues: str) -> bool:
    """Whether rings for all of these come in time."""

    async def hear() -> None:
        missing = set(queues)
        while missing:
            message = await get_channel_layer().receive(channel)
            assert (message["type"], message["using"]) == ("aftersave.ring", "default")
            missing -= set(message["queues"])

    async_to_sync(partial(asyncio.wait_for, timeout=15))(hear())
    return True


@pytest.mark.django_db(transaction=True)
def test_a_request_does_not_wait_for_a_redis_that_hangs(
    channel: str, hang: Callable[[], None], redis_server: Redis
) -> None:
    client = staff("view_task", "retry_task")
    task = failed(queue="held")
    client.get("/admin/tasks/task/")
    hang()
    began = time.monotonic()
    response = client.post(button_of(task, "retry"), {"version": versions([task])[task.pk]})
    enqueue("shop.do", queue="more")
    assert time.monotonic() - began < PATIENCE / 2
    assert response.status_code == 302
    assert Task.objects.get(pk=task.pk).shown_state == "due"
    redis_server.process.send_signal(signal.SIGCONT)
    assert heard(channel, "held", "more")
    enqueue("shop.do", queue="later")
    assert heard(channel, "later")


def test_however_much_is_rung_meanwhile_it_is_told_in_a_few_messages(
    channel: str, hang: Callable[[], None], redis_server: Redis
) -> None:
    hang()
    for number in range(3 * bell._MOST_NAMED):
        bell.ring("default", [f"queue{number}"])
    redis_server.process.send_signal(signal.SIGCONT)
    assert heard(channel, bell.ANY)


def test_a_redis_that_is_away_is_complained_of_seldom_and_rung_when_it_is_back(
    channel: str, redis_server: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    bell.ring("default", ["before"])
    assert heard(channel, "before")
    # Another test may have restarted Redis since the last ring.
    caplog.clear()
    redis_server.stop()
    with caplog.at_level(logging.WARNING, "tasks"):
        began = time.monotonic()
        for number in range(50):
            bell.ring("default", [f"queue{number}"])
            time.sleep(0.005)
        assert time.monotonic() - began < PATIENCE / 2
        wait_for(lambda: "takes no news" in caplog.text, what="the complaint")
    assert caplog.text.count("takes no news") < 10, "of fifty rings"
    # It has forgotten the group, and may be told what waited before somebody joins again.
    redis_server.start()
    again = joined(bell.GROUP)
    bell.ring("default", ["after"])
    assert heard(again, "after")


def test_news_go_through_the_layer_of_the_settings_as_they_are_now(
    channel: str, redis_server: Redis, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A layer of the process alone, made while nothing else was set, would take them for ever."""
    through_redis = settings.CHANNEL_LAYERS
    redis_server.stop()
    bell.ring("default", ["away"])
    wait_for(lambda: "takes no news" in caplog.text, what="the complaint")
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    wait_for(lambda: not sender._waiting, what="the end of the line")
    settings.CHANNEL_LAYERS = through_redis
    redis_server.start()
    again = joined(bell.GROUP)
    bell.ring("default", ["after"])
    assert heard(again, "after")


def test_a_short_process_rings_before_it_ends(
    sqlite_host: Host, channel: str, redis_url: str
) -> None:
    sqlite_host.env["REDIS_URL"] = redis_url
    sqlite_host.shell("from tasks import enqueue; enqueue('work.noop', queue='short')")
    assert heard(channel, "short")


def test_a_short_process_does_not_wait_long_for_a_redis_that_hangs(
    sqlite_host: Host, redis_layer: None, redis_url: str, hang: Callable[..., None]
) -> None:
    sqlite_host.env["REDIS_URL"] = redis_url
    hang(90)
    # Neither its imports nor its start are what is measured.
    code = (
        "import time; from channels.layers import get_channel_layer; get_channel_layer();"
        "from tasks import enqueue; began = time.time(); enqueue('work.noop');"
        "print(began, time.time())"
    )
    done = sqlite_host.manage("shell", "--verbosity=0", "--command", code)
    ended = time.time()
    began, enqueued = map(float, done.stdout.split()[-2:])
    assert enqueued - began < PATIENCE / 2
    assert ended - enqueued < PATIENCE / 2, "it says goodbye for a second"
    assert "takes no news; the last are not told" in done.stderr


def test_a_process_that_forked_rings_and_so_does_its_child(
    sqlite_host: Host, channel: str, redis_url: str
) -> None:
    sqlite_host.env["REDIS_URL"] = redis_url
    sqlite_host.shell(FORKS)
    assert heard(channel, "parent", "parent again", "child")
