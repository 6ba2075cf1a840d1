"""What the worker's own connection does on PostgreSQL. Collected on PostgreSQL alone."""

import select
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.utils import Error as DatabaseError

from tasks import bell, enqueue
from tasks.models import Worker
from tests.services.waiting import wait_for
from tests.workers.tools import ME, OTHER, claimed, worker
from workers import look as looking
from workers.attempt import GivenBack
from workers.look import look
from workers.membership import Membership
from workers.outcomes import give_back
from workers.session import Session, open_session

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def open_one() -> Iterator[Callable[[], Session]]:
    opened: list[Session] = []

    def open_it() -> Session:
        session = open_session("default")
        assert session is not None
        opened.append(session)
        return session

    yield open_it
    for session in opened:
        session.close()


def heard(session: Session) -> list[str]:
    assert select.select([session], [], [], 5)[0], "nobody rang"
    return session.rung()


def test_a_commit_rings_with_the_names_of_its_queues(open_one: Callable[[], Session]) -> None:
    session = open_one()
    with transaction.atomic():
        enqueue("work.noop", queue="b")
        enqueue("work.noop", queue="a")
        assert session.rung() == []
    assert sorted(heard(session)) == ["a", "b"]
    assert session.rung() == []


def test_a_rollback_does_not_ring(open_one: Callable[[], Session]) -> None:
    session = open_one()
    with transaction.atomic():
        enqueue("work.noop")
        transaction.set_rollback(True)
    enqueue("work.noop", queue="after")
    assert heard(session) == ["after"]


def test_what_becomes_due_soon_rings_for_the_timer(open_one: Callable[[], Session]) -> None:
    session = open_one()
    enqueue("work.noop", delay=1)
    assert heard(session) == [""]


def test_what_a_worker_gives_back_rings_for_others(open_one: Callable[[], Session]) -> None:
    task = claimed(enqueue("work.noop", queue="crm"))
    bell._last_rung.clear()
    session = open_one()
    mine = GivenBack(task_id=task.pk, lease=task.lease, queue=task.queue)
    lost = GivenBack(task_id=task.pk + 1, lease=1, queue="other")
    assert give_back("default", ME, [mine, lost]) == {task.pk}
    assert heard(session) == ["crm"]


def test_a_session_of_a_host_with_a_pool_is_none_of_the_pools(
    settings: Any, monkeypatch: pytest.MonkeyPatch, open_one: Callable[[], Session]
) -> None:
    own = connections.settings["default"]
    pooled = {**own, "OPTIONS": {**own.get("OPTIONS", {}), "pool": True}}
    monkeypatch.setitem(connections.settings, "pooled", pooled)
    settings.AFTERSAVE = {"SESSION_ALIAS": "pooled"}
    session = open_one()
    session.lock(ME)
    assert locked(ME)
    session.close()
    wait_for(lambda: not locked(ME), what="the lock to be free")


@pytest.mark.parametrize("alias", [None, {"default": None}])
def test_no_session_where_it_is_switched_off(settings: Any, alias: Any) -> None:
    settings.AFTERSAVE = {"SESSION_ALIAS": alias}
    assert open_session("default") is None


def locked(worker_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [worker_id])
        (free,) = cursor.fetchone()
        if free:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [worker_id])
    return not free


def test_a_session_holds_one_lock_until_it_ends(open_one: Callable[[], Session]) -> None:
    session = open_one()
    session.lock(ME)
    assert locked(ME)
    session.lock(OTHER)
    assert (locked(ME), locked(OTHER)) == (False, True)
    session.close()
    wait_for(lambda: not locked(OTHER), what="the lock to be free")


def test_a_look_sees_whose_lock_is_free_also_of_large_ids(
    open_one: Callable[[], Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "SERVER_SETTLES", 0)
    held, free = 2**53 - 2, 2**40 + 5
    worker(ME)
    worker(held, holds_lock=True)
    worker(free, holds_lock=True)
    worker(OTHER, holds_lock=False)
    session = open_one()
    session.lock(held)
    assert look("default", ME).unlocked == [free]


def test_while_the_server_is_young_nobody_is_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    worker(ME)
    worker(OTHER, holds_lock=True, beat=timedelta(hours=1))
    monkeypatch.setattr(looking, "SERVER_SETTLES", 10**6)
    seen = look("default", ME)
    assert (seen.unlocked, seen.silent) == ([], [])
    monkeypatch.setattr(looking, "SERVER_SETTLES", 0)
    seen = look("default", ME)
    assert (seen.unlocked, seen.silent) == ([OTHER], [OTHER])


def test_a_session_whose_connection_is_lost_says_so(open_one: Callable[[], Session]) -> None:
    session = open_one()
    pid = session._raw.info.backend_pid
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert select.select([session], [], [], 5)[0]

    def lost() -> bool:
        try:
            session.rung()
        except DatabaseError:
            return True
        return False

    wait_for(lost, what="the loss to be raised")


def test_a_member_retakes_its_lock_when_it_reopens_its_session() -> None:
    member = Membership("default", [], 1, 0)
    member.open_session()
    try:
        first = member.register()
        assert Worker.objects.get(pk=first).holds_lock
        member.open_session()
        assert locked(first)
        second = member.register()
        assert (locked(first), locked(second)) == (False, True)
    finally:
        member.close()
    wait_for(lambda: not locked(second), what="the lock to be free")
    assert "default-session" not in connections.settings
