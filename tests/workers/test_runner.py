"""The engine's thread, turn by turn; whole processes are tests/acceptance's."""

import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from typing import Any

import pytest
from django.db import connection
from django.db.utils import OperationalError
from django.utils import timezone

from tasks import Retry, Snooze, enqueue, enqueue_many, handler
from tasks.enqueueing import build
from tasks.models import Queue, State, Task, Worker
from tests.services.waiting import wait_for
from tests.workers.tools import end_other_sessions, row_locked, statements
from workers import sieve
from workers.claim import claim
from workers.hands import SHORTEST_ROUND
from workers.runner import Options, Runner

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def started() -> Iterator[Callable[..., Runner]]:
    runners: list[Runner] = []

    def start(**options: Any) -> Runner:
        runner = Runner(Options(threads=2, coroutines=2, **options))
        runner._begin()
        runners.append(runner)
        return runner

    yield start
    for runner in runners:
        runner._end()
    end_other_sessions()


def turn_until(runner: Runner, condition: Callable[[], object]) -> None:
    def turned() -> object:
        runner._turn()
        return condition()

    wait_for(turned, timeout=20, every=0, what="the runner")


def states() -> set[str]:
    return set(Task.objects.values_list("state", flat=True))


def test_it_runs_what_is_due_in_every_queue_and_makes_missing_queues(started: Any) -> None:
    enqueue_many([build("work.noop", queue=queue) for queue in "abc" for _ in range(20)])
    enqueue("work.async", queue="c")
    runner = started()
    turn_until(runner, lambda: states() == {"completed"})
    assert set(Queue.objects.values_list("name", flat=True)) == {"a", "b", "c"}


def test_a_task_that_is_due_again_at_once_does_not_wait_for_the_next_look(started: Any) -> None:
    turns: list[float] = []

    @handler("work.again", max_attempts=10)
    def again(task: Task) -> None:
        turns.append(time.monotonic())
        if len(turns) < 3:
            raise Snooze(0)
        if len(turns) < 6:
            raise Retry(after=0)

    enqueue("work.again")
    runner = started()
    turn_until(runner, lambda: turns)
    runner.times.look_at = time.monotonic() + 3600
    turn_until(runner, lambda: len(turns) == 6)


def test_a_task_that_snoozes_without_a_pause_is_run_ten_times_a_second(started: Any) -> None:
    entered: list[float] = []

    @handler("work.restless")
    def restless(task: Task) -> None:
        entered.append(task._execution.entered_at)  # type: ignore[union-attr]
        raise Snooze(0.001 if len(entered) % 2 else 0)

    enqueue("work.restless")
    turn_until(started(), lambda: len(entered) == 5)
    rounds = [later - earlier for earlier, later in pairwise(entered)]
    # Both moments are told by a clock that is set right with each look.
    assert min(rounds) > 0.8 * SHORTEST_ROUND


def test_with_drain_it_waits_for_a_task_that_only_lets_others_go_first(started: Any) -> None:
    rounds: list[int] = []

    @handler("work.portions")
    def portions(task: Task) -> None:
        rounds.append(task.pk)
        if len(rounds) < 4:
            raise Snooze(0)

    enqueue("work.portions")
    runner = started(drain=True)
    turn_until(runner, runner._finished)
    assert states() == {"completed"}


def test_the_timer_of_a_retry_is_set_when_it_is_written(started: Any) -> None:
    if not connection.features.has_select_for_update_skip_locked:
        return
    seen: list[int] = []

    @handler("work.second_try")
    def second_try(task: Task) -> None:
        seen.append(task.pk)
        if len(seen) == 1:
            raise Retry(after=0.05)

    task = enqueue("work.second_try")
    runner = started()
    turn_until(runner, lambda: runner.hands.busy)
    runner.times.look_at = time.monotonic() + 3600
    with row_locked(task):
        turn_until(runner, lambda: runner.flusher.has_left)
        until = time.monotonic() + 0.2
        turn_until(runner, lambda: time.monotonic() > until)
    # Its time was long past when it was written, and nobody looks.
    turn_until(runner, lambda: len(seen) == 2)


def test_with_drain_it_is_finished_when_nothing_is_due_nor_running(started: Any) -> None:
    first = enqueue("work.noop")
    enqueue("work.noop", after=[first])
    enqueue("work.noop", delay=3600)
    enqueue("work.nobody")
    runner = started(drain=True)
    turn_until(runner, runner._finished)
    assert [task.state for task in Task.objects.order_by("pk")] == [
        State.COMPLETED, State.COMPLETED, State.SCHEDULED, State.SCHEDULED,
    ]  # fmt: skip


def test_only_its_own_queues_are_served(started: Any) -> None:
    enqueue("work.noop", queue="mine")
    other = enqueue("work.noop", queue="other")
    runner = started(queues=["mine"], drain=True)
    turn_until(runner, runner._finished)
    other.refresh_from_db()
    assert other.state == State.SCHEDULED


def test_unknown_names_at_the_head_starve_nobody(started: Any) -> None:
    enqueue_many([build("work.nobody", priority=9) for _ in range(300)])
    known = enqueue("work.noop")
    runner = started()
    turn_until(runner, lambda: Task.objects.get(pk=known.pk).state == State.COMPLETED)
    turn_until(runner, lambda: not len(runner.flusher))
    assert set(Task.objects.exclude(pk=known.pk).values_list("state", "attempts")) == {
        (State.SCHEDULED, 0)
    }


def test_an_idle_worker_asks_at_most_one_question_a_second(started: Any) -> None:
    enqueue("work.nobody")
    runner = started()
    turn_until(runner, lambda: runner.hands.excluded and not len(runner.flusher))
    runner.times.poll = 1.0
    turn_until(runner, lambda: runner.times.look_at > time.monotonic() + 0.5)
    until = time.monotonic() + 2.5
    with statements() as seen:
        turn_until(runner, lambda: time.monotonic() > until)
    looks = [sql for sql, _ in seen if re.search("UPDATE .?tasks_worker", sql)]
    others = [sql for sql, _ in seen if "tasks_task" in sql and sql not in looks]
    assert 0 < len(looks) <= 3
    # The queue of the unknown name is asked for once after each look, on every database. Where a
    # look is no single statement, it asks for queues one by one, for timers and for orphans.
    assert len(others) <= len(looks) * (4 if connection.vendor == "postgresql" else 6)


def test_who_was_declared_dead_goes_on_under_a_new_id(started: Any) -> None:
    runner = started()
    before = runner.membership.id
    Worker.objects.update(lost_at=timezone.now())
    enqueue("work.noop")
    runner.times.look_at = 0.0
    turn_until(runner, lambda: states() == {"completed"})
    assert runner.membership.id != before
    assert Worker.objects.alive().get().pk == runner.membership.id


def test_what_a_lost_answer_claimed_for_it_goes_back_refunded(started: Any) -> None:
    runner = started()
    task = enqueue("work.noop", max_attempts=1)
    claim("default", "default", 1, runner.membership.id)
    runner._return_unknown()
    task.refresh_from_db()
    assert (task.state, task.attempts, task.lease) == (State.SCHEDULED, 0, 1)
    turn_until(runner, lambda: states() == {"completed"})


def test_told_to_stop_it_claims_no_more_and_ends_when_what_runs_has_ended(started: Any) -> None:
    entered: list[int] = []

    def slow(task: Task) -> None:
        entered.append(task.pk)
        time.sleep(0.2)

    handler("work.slow")(slow)
    first = enqueue("work.slow")
    runner = started()
    turn_until(runner, lambda: entered)
    runner.stop()
    second = enqueue("work.slow")
    turn_until(runner, runner._finished)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, second.state) == (State.COMPLETED, State.SCHEDULED)
    assert not runner.in_a_hurry


def test_a_queue_passed_over_for_want_of_a_hand_is_asked_as_soon_as_one_is_free(
    started: Any,
) -> None:
    entered: list[int] = []

    @handler("work.short")
    def short(task: Task) -> None:
        entered.append(task.pk)
        time.sleep(0.02)

    handler("work.other")(an_async_handler)
    enqueue_many([build("work.short") for _ in range(60)])
    runner = started()
    turn_until(runner, lambda: entered)
    # From here on nobody looks: who waits for that stands still. So nothing may go back, either,
    # though it waited for its thread for a second.
    runner.times.look_at = time.monotonic() + 3600
    runner.hands.return_unstarted = lambda **age: 0
    turn_until(runner, lambda: len(entered) == 60)
    runner.times.look_at = 0.0
    turn_until(runner, lambda: states() == {"completed"})


async def an_async_handler(task: Task) -> None:
    return None


def test_while_threads_are_busy_a_long_queue_is_not_read_for_coroutines_each_time(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that each claim of chosen names that finds too little counts as a slow one.
    monkeypatch.setattr(sieve, "FREE", -1.0)
    monkeypatch.setattr(sieve, "LONGEST", 3600.0)
    monkeypatch.setattr(sieve, "RESTS", 3600)
    enqueue_many([build("work.noop") for _ in range(100)])
    runner = started()
    with statements() as seen:
        turn_until(runner, lambda: states() == {"completed"})
    assert len([params for _, params in seen if params and "work.async" in params]) == 1


def test_what_is_claimed_is_what_was_wanted_when_it_was_allowed(started: Any) -> None:
    enqueue("work.noop")
    runner = started()
    runner.sieve._rests_until = math.inf
    # A second later its threads seem slower, and it wants coroutines only.
    runner.hands.appetite = cycle([(1, None), (1, ["work.async"])]).__next__
    with statements() as seen:
        turn_until(runner, lambda: states() == {"completed"})
    assert not [params for _, params in seen if params and "work.async" in params]


def test_when_its_rest_is_over_names_are_chosen_again_without_a_look(started: Any) -> None:
    gate, entered = threading.Event(), []
    handler("work.hold")(lambda task: gate.wait(30) and None)

    @handler("work.chosen")
    async def chosen(task: Task) -> None:
        entered.append(time.monotonic())

    enqueue_many([build("work.hold") for _ in range(6)])
    runner = started()
    turn_until(runner, lambda: len(runner.hands.threads.held) == 2)
    until = runner.sieve._rests_until = time.monotonic() + 0.3
    enqueue("work.chosen")
    runner.lanes.add(["default"])
    runner.times.look_at = time.monotonic() + 3600
    turn_until(runner, lambda: entered)
    # Once the held ones end all would go on by itself.
    assert until <= entered[0] < until + 10
    gate.set()
    runner.times.look_at = 0.0
    turn_until(runner, lambda: states() == {"completed"})


def test_a_claim_committed_after_its_connection_was_given_up_goes_back(started: Any) -> None:
    runner = started()
    enqueue("work.noop")
    claim("default", "default", 1, runner.membership.id)
    runner.recount_at = runner.times.look_at = 0.0
    turn_until(runner, lambda: states() == {"completed"})


def test_a_locked_row_whose_time_has_come_is_not_asked_for_all_the_time(started: Any) -> None:
    if not connection.features.has_select_for_update_skip_locked:
        return
    task = enqueue("work.noop", delay=0.1)
    runner = started()
    with row_locked(task):
        turn_until(runner, lambda: not runner.times.nothing_is_due(time.monotonic()))
        until = time.monotonic() + 1.0
        with statements() as seen:
            turn_until(runner, lambda: time.monotonic() > until)
        assert len(seen) < 60
    turn_until(runner, lambda: states() == {"completed"})


def test_a_retry_soon_is_run_when_its_time_has_come(started: Any) -> None:
    seen: list[float] = []

    def twice(task: Task) -> None:
        seen.append(time.monotonic())
        if len(seen) == 1:
            raise ValueError

    handler("work.twice", backoff=0.2)(twice)
    enqueue("work.twice")
    runner = started()
    # A clock that is set right meanwhile would make the wait shorter or longer.
    runner.clock.measure = lambda now: None
    turn_until(runner, lambda: seen)
    runner.times.look_at = time.monotonic() + 3600
    turn_until(runner, lambda: len(seen) == 2)
    assert seen[1] - seen[0] >= 0.1
    runner.times.look_at = 0.0
    turn_until(runner, lambda: states() == {"completed"})


def test_a_lost_database_is_survived(started: Any) -> None:
    runner = started()
    before = runner.membership.id
    runner._survive(OperationalError("gone"))
    enqueue("work.noop")
    turn_until(runner, lambda: states() == {"completed"})
    assert runner.membership.id == before


def test_of_what_runs_for_a_while_the_row_says_since_when(started: Any) -> None:
    go, entered = threading.Event(), []

    @handler("work.long", max_attempts=5)
    def long(task: Task) -> None:
        entered.append(timezone.now())
        go.wait(60)

    task = enqueue("work.long")
    runner = started()
    try:
        turn_until(runner, lambda: Task.objects.get(pk=task.pk).started_at)
        task.refresh_from_db()
        assert task.state == State.RUNNING
        assert abs((task.started_at - entered[0]).total_seconds()) < 5
        runner.times.look_at = 0.0
        with statements() as seen:
            runner._turn()
        assert not [sql for sql, _ in seen if re.search("SET .?started_at", sql)], "told already"
    finally:
        go.set()
    turn_until(runner, lambda: states() == {"completed"})
    told = task.started_at
    task.refresh_from_db()
    assert task.started_at == told


def test_a_row_that_somebody_holds_is_told_of_its_start_later(started: Any) -> None:
    if connection.vendor == "sqlite":
        return
    go = threading.Event()
    handler("work.long", max_attempts=5)(lambda task: go.wait(60) and None)
    task = enqueue("work.long")
    runner = started()
    try:
        turn_until(runner, lambda: runner.hands.busy)
        wait_for(runner.hands.long_running, what="a second of it")
        with row_locked(task):
            runner.times.look_at = 0.0
            runner._turn()
            assert Task.objects.get(pk=task.pk).started_at is None
        turn_until(runner, lambda: Task.objects.get(pk=task.pk).started_at)
    finally:
        go.set()
    turn_until(runner, lambda: states() == {"completed"})
