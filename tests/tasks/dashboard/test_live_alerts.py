import asyncio
from typing import Any

import pytest
from django.db import connection

from tasks import signals
from tasks.causes import Cause
from tasks.dashboard.live import hub, lookout
from tests.tasks.dashboard.test_replica import ReadsElsewhere
from tests.tasks.failing import fail

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_web_process_with_live_pages_raises_alerts_and_goes_on_after_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookout, "EVERY", 0.01)
    told: list[str] = []
    tries: list[str] = []
    watch = lookout.alerts.watch

    def failing_first(using: str) -> list[Cause]:
        tries.append(using)
        if len(tries) == 1:
            raise RuntimeError("not now")
        return watch(using)

    def hear(*, cause: Cause, **kwargs: Any) -> None:
        told.append(cause.title)

    async def until_told() -> None:
        looking = asyncio.create_task(lookout.look_out("default"))
        while not told:
            await asyncio.sleep(0.01)
        looking.cancel()

    monkeypatch.setattr(lookout.alerts, "watch", failing_first)
    signals.alert_raised.connect(hear)
    fail("email.send")
    connection.close()
    asyncio.run(asyncio.wait_for(until_told(), 20))
    signals.alert_raised.disconnect(hear)
    assert told == ["email.send fails"]


def test_alerts_are_looked_for_where_it_can_be_written_who_was_told(
    monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    looked: list[str] = []

    async def look(using: str) -> None:
        looked.append(using)

    async def enter() -> None:
        made = hub.Hub()
        made.enter("session")
        await asyncio.sleep(0)
        made.leave("session")

    settings.DATABASE_ROUTERS = [ReadsElsewhere()]
    monkeypatch.setattr(hub, "look_out", look)
    asyncio.run(enter())
    assert looked == ["default"]
