import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.utils import OperationalError
from django.utils import timezone

from tasks import enqueue, enqueue_many, figures, handler
from tasks.enqueueing import build
from tasks.figures import Counts
from tasks.handlers import registry
from tasks.models import State, Task
from tasks.names import OWN
from tasks.settle import Ending, settle
from tests.services.waiting import wait_for
from tests.workers.tools import ME, end_other_sessions, flusher, forget_all_handlers
from workers import hands
from workers.attempt import Clock
from workers.claim import claim
from workers.hands import Hands
from workers.outcomes import mark_started

pytestmark = pytest.mark.django_db(transaction=True)
(BULK,) = (handler for handler in registry if handler.name == "aftersave.bulk")


class Worker:
    """The engine's thread, played by the test."""

    def __init__(self, threads: int = 1, coroutines: int = 0) -> None:
        self.flusher = flusher()
        self.hands = Hands(self.flusher, Clock(), threads=threads, coroutines=coroutines)

    def claim(self, limit: int = 99) -> None:
        self.hands.give_out(claim("default", "default", limit, ME, exclude=self.hands.excluded))

    def turn(self) -> None:
        self.hands.collect()
        if len(self.flusher):
            self.flusher.flush(ME)
            self.hands.count_written()

    def finish(self, until: Callable[[], object]) -> None:
        def turned() -> object:
            self.turn()
            return until()

        wait_for(turned, what="the worker's handlers")

    def start_last(self) -> None:
        self.hands.start_last_attempts(lambda made: mark_started("default", ME, made))


class Gate:
    """A handler that holds until the test lets it go."""

    def __init__(self) -> None:
        self.entered: list[int] = []
        self.open = threading.Event()

    def __call__(self, task: Task) -> None:
        self.entered.append(task.pk)
        assert self.open.wait(20)

    async def wait(self, task: Task) -> None:
        import asyncio

        self.entered.append(task.pk)
        while not self.open.is_set():
            await asyncio.sleep(0.005)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    forget_all_handlers()
    handler("work.gate")(lambda task: gate(task))
    yield gate
    gate.open.set()


def states() -> list[str]:
    return list(Task.objects.order_by("pk").values_list("state", flat=True))


def tasks(count: int, name: str = "work.gate", **options: Any) -> list[Task]:
    return [enqueue(name, **options) for _ in range(count)]


def test_what_is_given_out_runs_and_frees_its_slot() -> None:
    worker = Worker(threads=2)
    enqueue_many([build("work.effect") for _ in range(9)])
    worker.claim()
    worker.finish(lambda: not worker.hands.busy and not len(worker.flusher))
    assert set(states()) == {"completed"}
    assert worker.hands.held() == []


def test_sync_and_async_handlers_run_beside_each_other(gate: Gate) -> None:
    async def wait(task: Task) -> None:
        await gate.wait(task)

    handler("work.async_gate")(wait)
    worker = Worker(threads=1, coroutines=3)
    sync, coro = tasks(2), tasks(3, "work.async_gate")
    worker.claim()
    wait_for(lambda: len(gate.entered) == 4, what="one thread and three coroutines")
    assert set(gate.entered) == {sync[0].pk, *(task.pk for task in coro)}
    gate.open.set()
    worker.finish(lambda: set(states()) == {"completed"})


def test_an_unknown_name_goes_back_refunded_and_is_excluded_from_then_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker()
    unknown = tasks(3, "work.nobody", priority=9)
    known = tasks(1, "work.noop")
    worker.claim(3)
    worker.turn()
    assert worker.hands.excluded == {"work.nobody"}
    assert caplog.text.count("No handler for task name 'work.nobody'") == 1
    assert states() == ["scheduled"] * 4
    assert set(Task.objects.values_list("attempts", "due")) == {(0, True)}
    worker.claim()
    worker.finish(lambda: not worker.hands.busy and not len(worker.flusher))
    known[0].refresh_from_db()
    assert known[0].state == State.COMPLETED
    assert Task.objects.get(pk=unknown[0].pk).lease == 1


def test_a_last_attempt_is_marked_as_started_before_it_enters_its_handler() -> None:
    seen: list[object] = []

    def look(task: Task) -> None:
        seen.append(Task.objects.values_list("started_at", flat=True).get(pk=task.pk))

    handler("work.look")(look)
    worker = Worker()
    enqueue("work.look", max_attempts=1)
    worker.claim()
    time.sleep(0.05)
    assert seen == []
    worker.start_last()
    worker.finish(lambda: states() == ["completed"])
    assert seen[0] is not None


def test_last_attempts_start_alone(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "ALONE", 1.0)
    worker = Worker(threads=4)
    tasks(3, max_attempts=1)
    worker.claim()
    began = time.monotonic()
    worker.start_last()
    worker.start_last()
    wait_for(lambda: gate.entered, what="the first")
    assert len(gate.entered) == 1
    at = worker.hands.next_last_attempt()
    assert at is not None
    assert began <= at - hands.ALONE <= time.monotonic()
    # One that takes its time is not waited for.
    wait_for(lambda: time.monotonic() >= at, what="its time alone")
    worker.start_last()
    wait_for(lambda: len(gate.entered) == 2, what="the second")
    gate.open.set()

    def all_ended() -> bool:
        worker.start_last()
        return states() == ["completed"] * 3

    worker.finish(all_ended)
    assert worker.hands.next_last_attempt() is None


def test_the_next_last_attempt_starts_as_soon_as_the_one_before_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hands, "ALONE", 5.0)
    worker = Worker(threads=2)
    tasks(8, "work.noop", max_attempts=1)
    began = time.monotonic()
    worker.claim()

    def all_ended() -> bool:
        worker.start_last()
        return set(states()) == {"completed"}

    worker.finish(all_ended)
    assert time.monotonic() - began < 2 * hands.ALONE


def test_a_last_attempt_that_cannot_be_marked_is_not_forgotten() -> None:
    seen: list[int] = []
    handler("work.seen")(lambda task: seen.append(task.pk))
    task = enqueue("work.seen", max_attempts=1)
    worker = Worker()
    worker.claim()

    def away(made: object) -> bool:
        raise OperationalError("server closed the connection unexpectedly")

    with pytest.raises(OperationalError):
        worker.hands.start_last_attempts(away)
    worker.start_last()
    worker.finish(lambda: seen == [task.pk])


def test_a_last_attempt_whose_lease_is_lost_is_not_started(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker()
    tasks(1, max_attempts=1)
    worker.claim()
    Task.objects.update(lease=7)
    worker.start_last()
    assert not worker.hands.busy
    assert gate.entered == []
    assert "was given to another worker" in caplog.text


def test_what_waited_too_long_for_a_slot_goes_back_refunded(gate: Gate) -> None:
    worker = Worker(threads=1)
    tasks(2)
    tasks(1, max_attempts=1, priority=-1)
    worker.claim()
    wait_for(lambda: gate.entered, what="the first")
    assert worker.hands.return_unstarted(older_than=60) == 0
    for one in worker.hands.held():
        one.claimed -= hands.STALE_AFTER
    assert worker.hands.return_unstarted() == 2
    worker.turn()
    assert states() == ["running", "scheduled", "scheduled"]
    assert list(Task.objects.order_by("pk").values_list("attempts", flat=True)) == [1, 0, 0]
    assert len(worker.hands.held()) == 1


def test_at_the_end_of_the_grace_also_what_runs_goes_back(gate: Gate) -> None:
    worker = Worker(threads=1)
    (running, _) = tasks(2)
    worker.claim()
    wait_for(lambda: gate.entered, what="the first")
    assert worker.hands.return_all() == 2
    worker.flusher.flush(ME)
    assert states() == ["scheduled", "scheduled"]
    gate.open.set()
    worker.finish(lambda: not worker.hands.busy)
    assert states() == ["scheduled", "scheduled"]
    assert Task.objects.get(pk=running.pk).result is None


def test_who_was_declared_dead_drops_all_it_holds_and_writes_nothing(
    gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(threads=1)
    tasks(3)
    worker.claim()
    wait_for(lambda: gate.entered, what="the first")
    assert worker.hands.drop() == 3
    (running,) = worker.hands.held()
    assert running.task.cancelled
    gate.open.set()
    worker.finish(lambda: not worker.hands.busy)
    assert len(worker.flusher) == 0
    assert states() == ["running"] * 3
    assert "was given to another worker" in caplog.text


def test_a_task_to_be_tried_again_is_told_so_that_its_time_is_known() -> None:
    worker = Worker()
    tasks(1, "work.raise")
    worker.claim()
    wait_for(lambda: len(worker.flusher), what="the outcome")
    worker.hands.collect()
    assert worker.hands.count_written() == [], "nobody could run it yet"
    worker.flusher.flush(ME)
    ((queue, later),) = worker.hands.count_written()
    assert queue == "default"
    assert later.failure is not None
    assert later.failure.message == "broken"
    assert worker.hands.count_written() == []


def test_while_one_kind_is_full_only_names_of_the_other_are_wanted(gate: Gate) -> None:
    async def wait(task: Task) -> None:
        await gate.wait(task)

    handler("work.async_gate")(wait)
    worker = Worker(threads=1, coroutines=2)
    assert worker.hands.appetite() == (1, None)
    tasks(1)
    worker.claim()
    assert worker.hands.appetite() == (2, ["work.async_gate"])
    tasks(2, "work.async_gate")
    worker.claim()
    assert worker.hands.appetite() is None


def test_a_kind_that_is_rare_does_not_limit_claims_of_the_other(gate: Gate) -> None:
    async def wait(task: Task) -> None:
        await gate.wait(task)

    handler("work.async_gate")(wait)
    tasks(40, "work.async_gate")
    worker = Worker(threads=2, coroutines=100)
    assert worker.hands.appetite() == (2, None), "all might be for threads"
    worker.claim(limit=2)
    assert worker.hands.appetite() == (32, None)
    worker.claim(limit=32)
    assert len(worker.hands.coroutines.held) == 34
    # Now all are for threads: more are claimed than there are, and the others go back at once.
    tasks(40, "work.gate", priority=9)
    assert worker.hands.appetite() == (32, None)
    worker.claim(limit=32)
    assert len(worker.hands.threads.held) == 2
    assert len(worker.flusher) == 30
    assert worker.flusher.due_at() == 0.0
    assert worker.hands.appetite() == (66, ["work.async_gate"])
    wait_for(lambda: len(gate.entered) == 36, what="34 coroutines and 2 threads")
    worker.turn()
    assert Counter(Task.objects.values_list("state", "attempts", "due")) == {
        ("running", 1, False): 36,
        ("scheduled", 0, True): 44,
    }
    # Half of what came is for threads, so the next claims are smaller again.
    assert worker.hands.mix.fitting(2, 66) < 5


@pytest.mark.parametrize(("threads", "names"), [(1, None), (0, [BULK.name, "work.async_gate"])])
def test_while_no_thread_is_free_aftersaves_own_tasks_are_left_to_others(
    gate: Gate, threads: int, names: list[str] | None
) -> None:
    async def wait(task: Task) -> None:
        await gate.wait(task)

    handler("work.async_gate")(wait)
    registry.remove("work.gate")
    registry.add(replace(BULK, function=gate))
    enqueue_many([build(BULK.name, {"bulk": number}) for number in range(3)])
    worker = Worker(threads=threads, coroutines=5)
    assert worker.hands.appetite() == (5, names)
    worker.hands.give_out(claim("default", OWN, 5, ME, names))
    assert len(worker.hands.threads.held) == 1
    assert worker.hands.appetite() == (5, ["work.async_gate"])
    worker.turn()
    assert states() == ["running", "scheduled", "scheduled"]


def test_a_claim_of_chosen_names_says_nothing_of_what_there_is(gate: Gate) -> None:
    async def wait(task: Task) -> None:
        await gate.wait(task)

    handler("work.async_gate")(wait)
    worker = Worker(threads=3, coroutines=2)
    tasks(1)
    names = ["work.gate"]
    worker.hands.give_out(claim("default", "default", 1, ME, names), of_any_name=False)
    assert worker.hands.appetite() == (2, None)


def counted() -> dict[str, Counts]:
    return figures.by_name("default", since=timezone.now() - timedelta(minutes=5))


def test_what_is_written_is_counted_once_and_what_is_not_never(gate: Gate) -> None:
    kept, lost = enqueue("work.gate"), enqueue("work.gate")
    worker = Worker(threads=2)
    worker.hands.tally.serve_as(ME)
    worker.claim()
    Task.objects.filter(pk=lost.pk).update(lease=F("lease") + 1)
    gate.open.set()
    wait_for(lambda: len(worker.flusher) == 2, what="both outcomes")
    worker.hands.collect()
    worker.hands.count_written()
    worker.hands.tally.write("default")
    assert counted() == {}, "nothing is in the database yet"
    worker.finish(lambda: Task.objects.get(pk=kept.pk).state == State.COMPLETED)
    worker.turn()
    worker.hands.tally.write("default")
    assert counted() == {"work.gate": Counts(completed=1)}
    assert not worker.flusher._attempts


def test_an_outcome_that_was_written_before_its_answer_was_lost_is_counted(gate: Gate) -> None:
    enqueue("work.gate")
    worker = Worker()
    worker.hands.tally.serve_as(ME)
    worker.claim()
    gate.open.set()
    wait_for(lambda: len(worker.flusher) == 1, what="the outcome")
    (outcome,) = worker.flusher._outcomes
    assert isinstance(outcome, Ending)
    settle("default", ME, [outcome])
    worker.turn()
    worker.hands.tally.write("default")
    assert counted() == {"work.gate": Counts(completed=1)}


def test_without_threads_only_aftersaves_own_sync_handlers_are_claimed(gate: Gate) -> None:
    async def wait(task: Task) -> None:
        await gate.wait(task)

    handler("work.async_gate")(wait)
    registry.add(BULK)
    enqueue("work.gate")
    enqueue(BULK.name, {"bulk": 0})
    worker = Worker(threads=0, coroutines=3)
    assert worker.hands.appetite() == (3, [BULK.name, "work.async_gate"])
    worker.hands.give_out(claim("default", OWN, 3, ME, [BULK.name, "work.async_gate"]))
    worker.finish(lambda: states() == ["scheduled", "completed"])


def test_a_worker_without_one_kind_of_slots_never_wants_its_names(gate: Gate) -> None:
    async def wait(task: Task) -> None:
        await gate.wait(task)

    handler("work.async_gate")(wait)
    assert Worker(threads=3).hands.appetite() == (3, ["work.gate"])
    assert Worker(threads=0, coroutines=3).hands.appetite() == (3, ["work.async_gate"])
    registry.remove("work.async_gate")
    assert Worker(threads=3).hands.appetite() == (3, None)
    assert Worker(threads=0, coroutines=3).hands.appetite() is None


@pytest.fixture(autouse=True)
def _end_other_sessions() -> Iterator[None]:
    yield
    end_other_sessions()
