"""Workers are told of new work after the commit, at most once in 20 ms, and nobody is hurt."""

import logging
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction

from tasks import bell, build, enqueue, enqueue_many
from tests.tasks.tools import finish

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Queues of each ring that left this process."""
    rings: list[set[str]] = []
    monkeypatch.setattr(bell, "_send", lambda using, queues: rings.append(set(queues)))
    return rings


def test_a_commit_rings_once_for_all_its_queues(rung: list[set[str]]) -> None:
    with transaction.atomic():
        enqueue("math.add", queue="a")
        enqueue_many([build("math.add", queue=queue) for queue in "abc"])
        assert rung == []
    assert rung == [{"a", "b", "c"}]


def test_a_rollback_rings_nobody(rung: list[set[str]]) -> None:
    with transaction.atomic():
        enqueue("math.add")
        transaction.set_rollback(True)
    assert rung == []


def test_work_enqueued_after_a_savepoint_was_rolled_back_still_rings(rung: list[set[str]]) -> None:
    with transaction.atomic():
        with transaction.atomic():
            enqueue("math.add", queue="a")
            transaction.set_rollback(True)
        with transaction.atomic():
            enqueue("math.add", queue="b")
        enqueue("math.add", queue="c")
    assert rung == [{"b", "c"}]


def test_a_queue_named_before_a_savepoint_is_rolled_back_still_rings(rung: list[set[str]]) -> None:
    with transaction.atomic():
        enqueue("math.add", queue="a")
        with transaction.atomic():
            enqueue("math.add", queue="b")
            transaction.set_rollback(True)
    assert len(rung) == 1
    assert "a" in rung[0]


def test_a_transaction_after_a_rolled_back_one_rings(rung: list[set[str]]) -> None:
    with transaction.atomic():
        enqueue("math.add")
        transaction.set_rollback(True)
    enqueue("math.add")
    assert rung == [{"default"}]


@pytest.mark.parametrize(
    "theirs", [partial(list), partial(list, ()), partial(dict, a=1), list], ids=str
)
def test_callbacks_of_the_host_do_not_disturb(theirs: Any, rung: list[set[str]]) -> None:
    with transaction.atomic():
        transaction.on_commit(theirs)
        enqueue("math.add")
        transaction.on_commit(theirs)
        enqueue("math.add", queue="b")
    assert rung == [{"default", "b"}]


def test_work_that_a_callback_enqueues_rings_too(rung: list[set[str]]) -> None:
    with transaction.atomic():
        transaction.on_commit(lambda: enqueue("math.add", queue="early"))
        enqueue("math.add", queue="a")
        transaction.on_commit(lambda: enqueue("math.add", queue="late"))
    assert set().union(*rung) == {"early", "a", "late"}


def test_a_ring_outside_a_transaction_leaves_at_once(rung: list[set[str]]) -> None:
    bell.ring_after_commit("default", {"a"})
    assert rung == [{"a"}]


def test_nobody_is_rung_for_work_that_cannot_start(rung: list[set[str]]) -> None:
    first = enqueue("math.add", queue="a")
    rung.clear()
    enqueue("math.sum", after=[first], queue="b")
    enqueue("math.add", delay=3600, queue="c")
    assert rung == []


def test_work_that_becomes_due_in_a_moment_rings_without_a_queue(rung: list[set[str]]) -> None:
    enqueue("math.add", delay=1)
    assert rung == [{""}]


def test_released_and_retried_work_rings(rung: list[set[str]]) -> None:
    first = enqueue("math.add", queue="a")
    enqueue("math.sum", after=[first], queue="b")
    rung.clear()
    finish(first)
    assert rung == [{"b"}]
    bell._last_rung.clear()
    first.retry()
    assert rung == [{"b"}, {"a"}]


def test_a_process_is_silent_about_a_queue_for_20_ms_after_ringing_for_it(
    rung: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(bell, "time", SimpleNamespace(monotonic=lambda: now))
    for queue in ("a", "a", "b"):
        enqueue("math.add", queue=queue)
    now += 0.019
    enqueue("math.add", queue="a")
    assert rung == [{"a"}, {"b"}]
    now += 0.002
    enqueue("math.add", queue="a")
    assert rung == [{"a"}, {"b"}, {"a"}]
    assert bell.LOOK_AGAIN > bell.SILENCE, "or work of the silence would be found only by polling"


def test_a_failing_ring_never_raises_into_the_host(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(using: str, queues: list[str]) -> None:
        raise OSError("no bell")

    monkeypatch.setattr(bell, "_send", fail)
    with caplog.at_level(logging.WARNING, "tasks.bell"):
        task = enqueue("math.add")
    assert "no bell" in caplog.text
    task.refresh_from_db()


def test_a_ring_with_nobody_there_leaves_the_connection_usable() -> None:
    with transaction.atomic():
        enqueue("math.add")
    assert connection.is_usable()
    assert not connection.in_atomic_block
