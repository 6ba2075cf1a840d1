"""How changes of other processes reach a page, and what it says when that way is lost."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tasks import enqueue, page_bell
from tasks.dashboard.live import hub
from tasks.dashboard.live.hub import Hub
from tests.services.redis import Redis
from tests.tasks.admin_rows import staff
from tests.tasks.dashboard.live_tools import Open, Reader

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def hears_no_own_bell(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process changes must go the way of other processes' changes."""
    monkeypatch.setattr(Hub, "hear", lambda *arguments: None)
    monkeypatch.setattr(hub, "SAFETY", 60.0)


def live_through(way: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message.get("how") == way


def sees_what_is_new(reader: Reader) -> bool:
    new = enqueue("shop.do")
    message = reader.hear_until(lambda message: new.pk in (message.get("here") or ()))
    return message["how"] in ("redis", "postgresql")


def test_through_redis_and_each_second_while_redis_is_away(
    redis_layer: None, redis_server: Redis, open_socket: Open
) -> None:
    reader = open_socket(staff("view_task"))
    reader.hear_until(live_through("redis"))
    assert sees_what_is_new(reader)
    redis_server.stop()
    reader.hear_until(live_through("look"))
    new = enqueue("shop.do")
    reader.hear_until(lambda message: new.pk in (message.get("here") or ()))
    redis_server.start()
    reader.hear_until(live_through("redis"), timeout=30)
    assert sees_what_is_new(reader)


def test_each_second_where_nothing_rings(
    open_socket: Open, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AFTERSAVE = {"SESSION_ALIAS": None}
    assert page_bell.way("default") == "look"
    assert hub.LOOK_EVERY == 1.0
    monkeypatch.setattr(hub, "LOOK_EVERY", 0.2)
    reader = open_socket(staff("view_task"))
    assert reader.whole()["how"] == "look"
    new = enqueue("shop.do")
    reader.hear_until(lambda message: new.pk in (message.get("here") or ()))


def test_nobody_listens_when_nobody_looks(open_socket: Open) -> None:
    reader = open_socket(staff("view_task"))
    reader.whole()
    assert len(page_bell.hearers) == 1
    reader.leave()
    assert page_bell.hearers == []


def test_ears_that_end_late_do_not_deafen_those_that_came_after(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def follow(
        group: str, hear: object, *, hears: Callable[[bool], None], lost: object
    ) -> None:
        """As over a client that loses the cancellation while it connects."""
        hears(True)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.5)
            hears(False)

    monkeypatch.setattr(page_bell, "way", lambda using: "redis")
    monkeypatch.setattr(hub, "follow", follow)
    client = staff("view_task")
    first = open_socket(client)
    first.hear_until(live_through("redis"))
    first.leave()
    second = open_socket(client)
    second.hear_until(live_through("redis"))
    assert second.is_silent_for(1.0)
