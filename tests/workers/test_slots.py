import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import translation

from tasks import enqueue
from tasks.models import State, Task
from tests.services.waiting import wait_for
from tests.tasks.tools import threads
from tests.workers.tools import attempt, claimed, end_other_sessions
from tests.workload.models import Effect
from workers.attempt import Attempt, Outcome
from workers.lanes import Lanes
from workers.slots import PREFETCH, Coroutines, Threads, tidy_connections

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ended() -> list[tuple[Attempt, Outcome]]:
    return []


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def made(function: Any, **options: Any) -> Attempt:
    return attempt(claimed(enqueue("work.noop")), function, **options)


def test_a_thread_for_each_slot_and_no_more(ended: Any, gate: threading.Event) -> None:
    slots = Threads(2, lambda *pair: ended.append(pair))
    names: set[str] = set()

    def hold(task: Task) -> None:
        names.add(str(threading.get_ident()))
        gate.wait(20)

    for one in [made(hold) for _ in range(5)]:
        slots.hold(one)
        slots.start(one)
    wait_for(lambda: len(names) == 2, what="two threads")
    waiting = slots.withdraw(older_than=time.monotonic())
    assert len(waiting) == 3
    gate.set()
    wait_for(lambda: len(ended) == 2, what="the ends")
    assert len(names) == 2


def test_what_was_claimed_lately_is_not_withdrawn_and_keeps_its_order(
    ended: Any, gate: threading.Event
) -> None:
    order: list[int] = []
    slots = Threads(1, lambda *pair: ended.append(pair))
    blocker = made(lambda task: gate.wait(20) and None)
    old = made(lambda task: None)
    young = [made(lambda task: order.append(task.pk)) for _ in range(3)]
    old.claimed -= 120
    slots.hold(blocker)
    slots.start(blocker)
    wait_for(lambda: blocker.started_at, what="the blocker")
    for one in [old, *young]:
        slots.hold(one)
        slots.start(one)
    assert slots.withdraw(older_than=time.monotonic() - 60) == [old]
    gate.set()
    wait_for(lambda: len(ended) == 4, what="the ends")
    assert order == [one.task.pk for one in young]


def test_capacity_is_the_free_slots_until_it_is_known_how_fast_they_are() -> None:
    slots = Threads(3, lambda *pair: None)
    assert slots.capacity() == 3
    assert slots.wants()
    for one in [made(lambda task: None) for _ in range(3)]:
        slots.hold(one)
    assert slots.capacity() == 0
    assert not slots.wants()


def test_prefetch_is_at_most_what_the_last_seconds_rate_starts_in_its_time() -> None:
    slots = Threads(1, lambda *pair: None)
    busy = made(lambda task: None)
    slots.hold(busy)
    for _ in range(1000):
        one = attempt(busy.task)
        one.claimed -= 60
        slots.hold(one)
        slots.done(one)
    # 1,000 in the last second: 50 of them start in 50 ms.
    assert 0.9 * 1000 * PREFETCH <= slots.capacity() <= 1000 * PREFETCH


def test_the_first_attempts_tell_the_rate_by_the_time_they_took() -> None:
    slots = Threads(4, lambda *pair: None)
    many = [made(lambda task: None) for _ in range(8)]
    for one in many:
        one.claimed -= 0.5
        slots.hold(one)
        slots.done(one)
    # 8 in half a second: less than one of them starts in 50 ms.
    assert slots.capacity() == 4
    slots.hold(made(lambda task: None))
    assert slots.capacity() == 3


def test_withdrawing_leaves_what_is_fresh_where_threads_find_it() -> None:
    slots = Threads(0, lambda *pair: None)
    old, fresh = made(lambda task: None), made(lambda task: None)
    old.claimed = time.monotonic() - 120
    slots._waiting.extend([old, fresh])
    assert slots.withdraw(time.monotonic() - 60) == [old]
    assert list(slots._waiting) == [fresh]


def test_what_a_handler_activates_ends_with_it(ended: Any) -> None:
    seen: list[str] = []

    def speak(task: Any) -> None:
        seen.append(translation.get_language())
        translation.activate("de")

    slots = Threads(1, lambda *pair: ended.append(pair))
    for _ in range(2):
        one = made(speak)
        slots.hold(one)
        slots.start(one)
    wait_for(lambda: len(seen) == 2, what="both handlers")
    assert seen == [settings.LANGUAGE_CODE] * 2


def test_no_slots_want_nothing() -> None:
    for slots in (Threads(0, lambda *pair: None), Coroutines(0, lambda *pair: None)):
        assert slots.capacity() == 0
        assert not slots.wants()


def test_coroutines_run_at_once_up_to_their_number(ended: Any) -> None:
    import asyncio

    running = most = 0

    async def work(task: Task) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        # However slowly the others are started, none ends before three are there.
        while most < 3:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        running -= 1

    slots = Coroutines(3, lambda *pair: ended.append(pair))
    for one in [made(work, is_async=True) for _ in range(9)]:
        slots.hold(one)
        slots.start(one)
    wait_for(lambda: len(ended) == 9, what="nine ends")
    assert most == 3
    assert {getattr(outcome, "state", None) for _, outcome in ended} == {State.COMPLETED}


def in_a_thread(function: Any) -> Any:
    with threads(1) as start:
        return start(function).result(20)


def test_what_a_handler_left_open_is_rolled_back() -> None:
    def leave_open() -> tuple[bool, int]:
        atomic = transaction.atomic()
        atomic.__enter__()
        Effect.objects.create(key="left open", pid=1)
        tidy_connections()
        return connection.in_atomic_block, Effect.objects.count()

    def leave_autocommit_off() -> tuple[bool, int]:
        connection.set_autocommit(False)
        Effect.objects.create(key="left open", pid=1)
        tidy_connections()
        return connection.get_autocommit(), Effect.objects.count()

    assert in_a_thread(leave_open) == (False, 0)
    assert in_a_thread(leave_autocommit_off) == (True, 0)


def test_a_sound_connection_is_kept_whatever_its_age_and_a_broken_one_replaced() -> None:
    def keep() -> bool:
        connection.ensure_connection()
        connection.close_at = 0
        before = connection.connection
        tidy_connections()
        return connection.connection is before

    def replace() -> bool:
        connection.ensure_connection()
        connection.connection.close()
        try:
            Effect.objects.count()
        except Exception:
            tidy_connections()
        return Effect.objects.count() == 0

    assert in_a_thread(keep)
    # A file cannot hang up.
    assert connection.vendor == "sqlite" or in_a_thread(replace)


def test_a_handlers_error_does_not_end_its_thread(ended: Any) -> None:
    def broken(task: Task) -> None:
        raise SystemExit

    slots = Threads(1, lambda *pair: ended.append(pair))
    for one in [made(broken), made(lambda task: None)]:
        slots.hold(one)
        slots.start(one)
    wait_for(lambda: len(ended) == 2, what="both ends")


def test_queues_take_turns() -> None:
    lanes = Lanes()
    assert not lanes
    assert lanes.next() is None
    lanes.add(["a", "b", "c"])
    assert [lanes.next() for _ in range(4)] == ["a", "b", "c", "a"]
    lanes.empty("b")
    lanes.empty("never known")
    assert [lanes.next() for _ in range(3)] == ["c", "a", "c"]
    assert lanes


def test_queues_that_are_not_served_are_left_to_others() -> None:
    lanes = Lanes(["a"])
    lanes.add(["b"])
    lanes.rung(["b"], now=10.0)
    assert not lanes
    lanes.look_again(11.0)
    assert not lanes


def test_after_a_ring_a_queue_is_looked_at_once_more() -> None:
    lanes = Lanes()
    lanes.rung(["a"], now=10.0)
    assert lanes.next() == "a"
    lanes.empty("a")
    lanes.look_again(10.001)
    assert lanes.next_look_again() == pytest.approx(10.025)
    assert not lanes
    lanes.look_again(10.026)
    assert lanes.next_look_again() is None
    assert lanes.next() == "a"


@pytest.fixture(autouse=True)
def _end_other_sessions() -> Iterator[None]:
    yield
    end_other_sessions()
