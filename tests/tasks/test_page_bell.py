"""Pages are told after the commit what changed, seldom, and nobody waits for it."""

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

from tasks import build, enqueue, enqueue_many, incidents, page_bell
from tasks.layer import PATIENCE
from tasks.models import Task
from tests.services.host import Host
from tests.services.redis import Redis
from tests.tasks.failing import fail, incident
from tests.tasks.tools import finish, joined

on_a_database = pytest.mark.django_db(transaction=True)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, int]]]:
    """What pages of this process heard."""
    heard: list[dict[str, int]] = []

    def hear(using: str, changes: Mapping[str, int]) -> None:
        heard.append(dict(changes))

    page_bell.hearers.append(hear)
    yield heard
    page_bell.hearers.remove(hear)


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """What would be sent through PostgreSQL; time stands still but for ``clock.now``."""
    sent: list[dict[str, int]] = []
    monkeypatch.setattr(page_bell, "way", lambda using: "postgresql")
    monkeypatch.setattr(page_bell, "_bells", {})
    monkeypatch.setattr(page_bell._Bell, "_notify", lambda bell, changes: sent.append(changes))
    return sent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(page_bell, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@on_a_database
def test_pages_hear_of_incidents_whoever_decides(told: list[dict[str, int]]) -> None:
    task = fail()
    told.clear()
    incidents.take(incident(), by="night shift")
    assert told == [{page_bell.ANY: 1}]

    task.complete()
    told.clear()
    assert incidents.refresh("default") == 1
    assert told == [{page_bell.ANY: 1}]
    assert incidents.refresh("default") == 0
    assert len(told) == 1


def heard_on(channel: str, queue: str, changes: int) -> bool:
    """Whether so many changes of the queue come in time."""

    async def hear() -> None:
        heard = 0
        while heard < changes:
            message = await get_channel_layer().receive(channel)
            assert message["using"] == "default"
            # Or of what another test changed a moment ago.
            heard += message["changes"].get(queue, 0)

    async_to_sync(partial(asyncio.wait_for, timeout=10))(hear())
    return True


@on_a_database
def test_a_commit_tells_once_how_much_changed_in_which_queue(told: list[dict[str, int]]) -> None:
    with transaction.atomic():
        enqueue("shop.do", queue="a")
        enqueue_many([build("shop.do", queue=queue) for queue in "abb"])
        assert told == []
    assert told == [{"a": 2, "b": 2}]


@on_a_database
def test_a_rollback_tells_nobody(told: list[dict[str, int]]) -> None:
    with transaction.atomic():
        enqueue("shop.do")
        transaction.set_rollback(True)
    assert told == []


@on_a_database
def test_a_savepoint_that_is_rolled_back_hides_nothing_that_stays(
    told: list[dict[str, int]],
) -> None:
    with transaction.atomic():
        with transaction.atomic():
            enqueue("shop.do", queue="a")
            transaction.set_rollback(True)
        enqueue("shop.do", queue="b")
    assert told == [{"b": 1}]


@on_a_database
def test_tasks_that_staff_and_prerequisites_change_are_told_of(told: list[dict[str, int]]) -> None:
    first = enqueue("shop.do", queue="a")
    enqueue("shop.next", after=[first], queue="b")
    told.clear()
    finish(first)
    assert sum((Counter(one) for one in told), Counter())["b"] == 1
    told.clear()
    Task.objects.get(pk=first.pk).run_again(reason="once more")
    Task.objects.get(pk=first.pk).cancel()
    assert len(told) >= 2


def test_a_process_tells_of_a_queue_ten_times_a_second_and_forgets_nothing(
    notices: list[dict[str, int]], clock: SimpleNamespace
) -> None:
    for _ in range(3):
        page_bell.changed("default", {"a": 1})
    page_bell.changed("default", {"b": 5})
    assert notices == [{"a": 1}, {"a": 2, "b": 5}]
    clock.now += page_bell.SILENCE
    page_bell.changed("default", {"a": 1})
    assert notices[2:] == [{"a": 1}]
    assert page_bell.LOOK_AGAIN > page_bell.SILENCE, "or what is held back would be seen late"


def test_who_comes_back_for_the_rest_tells_ten_times_a_second_of_all_queues(
    notices: list[dict[str, int]], clock: SimpleNamespace
) -> None:
    assert page_bell.rest_due_at("default") is None
    for number in range(50):
        page_bell.changed("default", {f"queue{number}": 1})
    assert notices == [{"queue0": 1}]
    assert page_bell.rest_due_at("default") == clock.now + page_bell.SILENCE
    page_bell.tell_rest("default")
    assert len(notices) == 1
    clock.now += page_bell.SILENCE
    page_bell.tell_rest("default")
    assert notices[1:] == [{f"queue{number}": 1 for number in range(1, 50)}]
    assert page_bell.rest_due_at("default") is None


def test_much_that_goes_on_somewhere_waits_longer_than_little_elsewhere(
    notices: list[dict[str, int]], clock: SimpleNamespace
) -> None:
    page_bell.tell_rest("default")
    page_bell.changed("default", {"loud": 100})
    page_bell.changed("default", {"loud": 100})
    assert notices == [{"loud": 100}]
    assert page_bell.rest_due_at("default") == clock.now + page_bell.STEADY
    clock.now += page_bell.SILENCE
    page_bell.changed("default", {"quiet": 1})
    assert notices[1:] == [{"loud": 100, "quiet": 1}]


@on_a_database
def test_a_bell_that_fails_never_raises_into_the_host(
    notices: list[dict[str, int]], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(bell: object, changes: object) -> None:
        raise OSError("no bell")

    monkeypatch.setattr(page_bell._Bell, "_notify", fail)
    with caplog.at_level(logging.WARNING, "tasks.page_bell"):
        task = enqueue("shop.do")
    assert "no bell" in caplog.text
    task.refresh_from_db()


def test_a_redis_that_hangs_holds_nobody_up_and_gets_the_news_later(
    redis_layer: None, redis_server: Redis
) -> None:
    channel = joined(page_bell.GROUP)
    redis_server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    for _ in range(1000):
        page_bell.changed("default", {"a": 1})
    took = time.monotonic() - began
    redis_server.process.send_signal(signal.SIGCONT)
    assert took < PATIENCE / 2
    assert heard_on(channel, "a", 1000)


def test_a_short_process_tells_its_news_before_it_ends(
    sqlite_host: Host, redis_layer: None, redis_url: str
) -> None:
    channel = joined(page_bell.GROUP)
    sqlite_host.env["REDIS_URL"] = redis_url
    sqlite_host.shell("from tasks import enqueue; [enqueue('work.noop') for _ in range(50)]")
    assert heard_on(channel, "default", 50)
