"""PostgreSQL: what a worker that listens really hears."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from tasks import bell, build, enqueue, enqueue_many

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ears(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    parameters = connection.get_connection_params()
    known = {
        key: parameters[key] for key in ("dbname", "user", "host", "port") if key in parameters
    }
    with psycopg.connect(**known, autocommit=True) as listener:
        listener.execute(f"LISTEN {bell.CHANNEL}")
        yield listener


def heard(ears: psycopg.Connection[Any]) -> list[str]:
    """Everything rung until a mark of our own arrives behind it."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [bell.CHANNEL, "mark"])
    payloads: list[str] = []
    for notice in ears.notifies(timeout=10):
        if notice.payload == "mark":
            return payloads
        payloads.append(notice.payload)
    raise AssertionError(f"the mark did not come behind {payloads}")


def test_a_listener_hears_the_queues_of_committed_work(ears: psycopg.Connection[Any]) -> None:
    with transaction.atomic():
        enqueue_many([build("math.add", queue="a"), build("math.add", queue="b")])
    (payload,) = heard(ears)
    assert set(payload.split(",")) == {"a", "b"}


def test_a_listener_hears_nothing_of_rolled_back_work(ears: psycopg.Connection[Any]) -> None:
    with transaction.atomic():
        enqueue("math.add")
        transaction.set_rollback(True)
    assert heard(ears) == []


def test_a_listener_hears_work_enqueued_after_a_rolled_back_savepoint(
    ears: psycopg.Connection[Any],
) -> None:
    with transaction.atomic():
        with transaction.atomic():
            enqueue("math.add", queue="a")
            transaction.set_rollback(True)
        enqueue("math.add", queue="b")
    assert heard(ears) == ["b"]


def test_a_burst_is_heard_once_and_again_after_the_silence(
    ears: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(bell, "time", SimpleNamespace(monotonic=lambda: now))
    for _ in range(10):
        enqueue("math.add")
    assert heard(ears) == ["default"]
    now += bell.SILENCE + 0.001
    enqueue("math.add")
    assert heard(ears) == ["default"]


def test_too_many_queues_for_one_notice_are_heard_as_all(ears: psycopg.Connection[Any]) -> None:
    enqueue_many(build("math.add", queue=f"{n:064}") for n in range(200))
    assert heard(ears) == ["*"]


def test_a_queues_name_in_any_language_is_heard_as_it_is(ears: psycopg.Connection[Any]) -> None:
    enqueue("math.add", queue="e-mails für 'Zoë'")
    assert heard(ears) == ["e-mails für 'Zoë'"]


def test_a_ring_that_the_server_refuses_does_not_break_the_host(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bell, "CHANNEL", "x" * 100)
    task = enqueue("math.add")
    assert "Ringing" in caplog.text
    task.refresh_from_db()
