"""A button that is pressed while others hold what it needs, for longer than the database waits."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from tasks.dashboard.editing import digest
from tasks.dashboard.versions import versions
from tasks.models import Task, TaskEvent
from tests.tasks.admin_rows import EVERYTHING, LIST, button_of, failed, messages_of, staff, text_of
from tests.tasks.tools import threads
from tests.workers.tools import row_locked

pytestmark = pytest.mark.django_db(transaction=True)

BUSY = "Nothing was done: the database was busy"
#: So that nobody waits for as long as these databases do.
_WAIT_LESS = {
    "postgresql": "SET lock_timeout = '200ms'",
    "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    "sqlite": "PRAGMA busy_timeout = 200",
}


def pressed_meanwhile(task: Task, press: Callable[[], Any]) -> Any:
    """The answer to ``press`` while somebody else holds the row of ``task``."""

    def impatiently() -> Any:
        with connection.cursor() as cursor:
            cursor.execute(_WAIT_LESS[connection.vendor])
        return press()

    with row_locked(task), threads(1) as run:
        return run(impatiently).result(20)


@pytest.fixture(params=[False] if connection.vendor == "sqlite" else [False, True])
def atomic_requests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the host has each request in a transaction. On SQLite such a host waits before any
    page of ours is asked.
    """
    monkeypatch.setitem(settings.DATABASES["default"], "ATOMIC_REQUESTS", request.param)


@pytest.mark.usefixtures("atomic_requests")
@pytest.mark.parametrize("ticked", [False, True])
def test_who_presses_is_told_that_others_were_in_the_way(ticked: bool) -> None:
    client, task = staff(*EVERYTHING), failed()
    version = versions([task])[task.pk]
    url, form = button_of(task, "retry"), {"version": version}
    if ticked:
        url, form = f"{LIST}selected/retry/", {"ticked": f"{task.pk}:{version}"}
    response = pressed_meanwhile(task, partial(client.post, url, form))
    assert response.status_code == 302
    (said,) = messages_of(client.get(LIST))
    assert said.startswith(BUSY)
    assert not TaskEvent.objects.exists()


@pytest.mark.usefixtures("atomic_requests")
def test_the_editor_keeps_what_was_typed() -> None:
    client, task = staff(*EVERYTHING), failed()
    typed, version = '{"typed": 1}', versions([task])[task.pk]
    form = {"data": typed, "version": version, "reason": "typo", "step": "save"}
    form["previewed"] = digest(typed, version)
    response = pressed_meanwhile(task, partial(client.post, button_of(task, "change_data"), form))
    assert response.status_code == 200
    assert BUSY in text_of(response)
    assert "&quot;typed&quot;: 1" in text_of(response)
    assert not TaskEvent.objects.exists()


def test_an_error_of_another_kind_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("the disk is full")

    client, task = staff(*EVERYTHING), failed()
    monkeypatch.setattr("tasks.dashboard.pressing.lock", break_down)
    with pytest.raises(OperationalError, match="disk"):
        client.post(button_of(task, "retry"), {"version": versions([task])[task.pk]})
