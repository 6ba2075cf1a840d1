import asyncio
import math
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection

from tasks import Cancel, Fail, Retry, enqueue
from tasks.exceptions import RecordGone
from tasks.models import State, Task
from tasks.redact import redact_text
from tasks.settle import Ending
from tests.workers.tools import ME, attempt, claimed
from tests.workload.models import Effect, Record
from workers.attempt import Attempt, Clock, Later, Outcome, Written
from workers.execute import execute, execute_async

pytestmark = pytest.mark.django_db


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Rude(Exception):
    pass


def raising(error: BaseException) -> Any:
    def function(task: Task) -> None:
        raise error

    return function


class Stopped(Clock):
    """A clock that stands still, so that a wait is as long as it was meant to be."""

    def time(self) -> float:
        return 1_800_000_000.0


def run(function: Any, *, max_attempts: int = 5, **options: Any) -> Outcome:
    task = claimed(enqueue("work.tried", max_attempts=max_attempts))
    made = attempt(task, function, **options)
    made.clock = Stopped()
    return execute(made)


def failed(function: Any, **options: Any) -> Ending:
    outcome = run(function, max_attempts=1, **options)
    assert isinstance(outcome, Ending)
    assert outcome.state == State.FAILED
    assert outcome.failure is not None
    return outcome


def retried(function: Any, **options: Any) -> Later:
    outcome = run(function, **options)
    assert isinstance(outcome, Later)
    return outcome


def a_generator(task: Task) -> Any:
    yield


async def a_coroutine(task: Task) -> None: ...


async def an_async_generator(task: Task) -> Any:
    yield


@pytest.mark.parametrize("hidden", [a_generator, a_coroutine, an_async_generator])
@pytest.mark.parametrize("atomic", [False, True])
def test_work_that_was_never_begun_is_not_taken_for_done(hidden: Any, atomic: bool) -> None:
    later = retried(lambda task: hidden(task), atomic=atomic)
    assert later.failure.exception == "tasks.exceptions.InvalidHandler"
    assert "its work was not done" in later.failure.message


def test_fail_and_cancel_need_no_reason() -> None:
    assert failed(raising(Fail())).reason == "given up by the handler"
    outcome = run(raising(Cancel()))
    assert isinstance(outcome, Ending)
    assert (outcome.state, outcome.reason) == (State.CANCELLED, "withdrawn by the handler")


def seconds_until(later: Later) -> float:
    return (later.run_at - Stopped().now()).total_seconds()


def test_a_return_value_completes_the_task_with_it() -> None:
    outcome = run(lambda task: {"a": 1})
    assert isinstance(outcome, Ending)
    assert (outcome.state, outcome.result, outcome.failure) == (State.COMPLETED, '{"a":1}', None)
    assert outcome.started_at is not None


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {"k": {(): 1}}])
def test_a_return_value_that_is_no_json_completes_the_task_without_it(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = run(lambda task: value)
    assert isinstance(outcome, Ending)
    assert (outcome.state, outcome.result) == (State.COMPLETED, None)
    assert "completed without its result" in caplog.text


def test_an_exception_is_tried_again_and_its_failure_kept() -> None:
    later = retried(raising(ValueError("no luck")), backoff=10.0)
    assert 5 <= seconds_until(later) <= 10
    assert not later.due
    failure = later.failure
    assert (failure.attempt, failure.worker_id) == (1, ME)
    assert (failure.exception, failure.message) == ("builtins.ValueError", "no luck")
    assert failure.traceback.startswith("Traceback")
    assert "raise error" in failure.traceback
    assert "workers/execute.py" not in failure.traceback


def test_the_last_attempt_fails_with_the_reason_in_one_line() -> None:
    ending = failed(raising(ValueError("first\nsecond")))
    assert ending.reason == "ValueError: first second"
    assert ending.fingerprint == ending.failure.fingerprint  # type: ignore[union-attr]
    assert failed(raising(KeyError())).reason == "KeyError"


def test_fail_gives_up_with_attempts_left() -> None:
    outcome = run(raising(Fail("card refused")))
    assert isinstance(outcome, Ending)
    assert (outcome.state, outcome.reason) == (State.FAILED, "card refused")


def test_cancel_ends_without_a_failure() -> None:
    outcome = run(raising(Cancel("order\nwithdrawn")))
    assert isinstance(outcome, Ending)
    assert (outcome.state, outcome.reason) == (State.CANCELLED, "order withdrawn")
    assert outcome.failure is None


@pytest.mark.parametrize("kind", [Fail, Cancel])
@pytest.mark.parametrize("reason", [ValueError("inner"), None, 7, Mute()])
def test_a_reason_that_is_not_text_becomes_text(kind: Any, reason: Any) -> None:
    outcome = run(raising(kind(reason)))
    assert isinstance(outcome, Ending)
    assert outcome.reason
    assert len(outcome.reason) < 60


def test_retry_after_decides_when_and_counts_as_an_attempt() -> None:
    later = retried(raising(Retry("busy", after=60)))
    assert seconds_until(later) == 60
    assert later.failure.message == "busy"
    assert retried(raising(Retry(after=timedelta(0)))).due
    assert failed(raising(Retry("busy", after=60))).reason == "Retry: busy"


@pytest.mark.parametrize("after", [1e300, math.inf])
def test_a_retry_in_eternity_is_kept_within_what_databases_know(after: float) -> None:
    later = retried(raising(Retry(after=after)))
    Task.objects.update(run_at=later.run_at, due=False, state=State.SCHEDULED, worker_id=None)
    assert Task.objects.get().run_at.year < 2200


@pytest.mark.parametrize("backoff", [lambda n: 1 / 0, lambda n: "soon"])
def test_a_backoff_that_is_no_time_is_replaced_by_the_default(
    backoff: Any, caplog: pytest.LogCaptureFixture
) -> None:
    later = retried(raising(ValueError()), backoff=backoff)
    assert seconds_until(later) == 5
    assert "backoff of task" in caplog.text


def test_a_retry_after_no_number_of_seconds_waits_for_the_default() -> None:
    assert seconds_until(retried(raising(Retry(after=math.nan)))) == 5


def test_a_backoff_function_gets_the_number_of_the_attempt() -> None:
    later = retried(raising(ValueError()), backoff=lambda number: number * 100)
    assert seconds_until(later) == 100
    assert retried(raising(ValueError()), backoff=lambda number: -3).due


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_process_ends_only_the_attempt(error: BaseException) -> None:
    assert failed(raising(error)).failure.exception == (  # type: ignore[union-attr]
        f"builtins.{type(error).__name__}"
    )


def test_an_error_without_a_text_is_kept_all_the_same() -> None:
    failure = failed(raising(Mute())).failure
    assert failure is not None
    assert failure.message == "(its text cannot be had: ValueError)"
    assert "Mute" in failure.traceback


def test_a_huge_poisoned_error_is_cleaned_and_cut(settings: Any) -> None:
    settings.AFTERSAVE = {"TRACEBACK_LIMIT": 2000}
    failure = failed(raising(ValueError("\x00\ud800" + "é" * 50_000))).failure
    assert failure is not None
    assert "\x00" not in failure.message + failure.traceback
    assert len(failure.message.encode()) <= 4096
    assert len(failure.traceback.encode()) <= 2000
    failure.save()


@pytest.mark.parametrize("before", [250, 4070, 490, 10_000])
def test_no_half_of_a_secret_is_stored_where_a_text_is_cut(settings: Any, before: int) -> None:
    settings.AFTERSAVE = {"TRACEBACK_LIMIT": 2000}
    said = "x" * before + " postgres://shop:" + "hunter2" * 70 + "@db " + "y" * 900
    ending = failed(raising(ValueError(said)))
    assert ending.failure is not None
    for stored in (ending.reason, ending.failure.message, ending.failure.traceback):
        assert "hunter2" not in redact_text(stored)
    assert len(ending.failure.traceback) <= 2000


def test_an_endless_recursion_fails_the_attempt() -> None:
    def deeper(task: Task) -> None:
        deeper(task)

    assert failed(deeper).reason.startswith("RecursionError")


def test_failures_of_one_cause_have_one_fingerprint_and_others_another() -> None:
    calls: list[int] = []

    def one(task: Task) -> None:
        calls.append(task.pk)
        if len(calls) == 1:
            raise Rude(f"task {task.pk}")
        raise Rude("on another line")

    def two(task: Task) -> None:
        raise Rude

    def three(task: Task) -> None:
        raise ValueError

    prints = [failed(function).fingerprint for function in (one, one, two, three)]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_a_deleted_record_cancels_the_task_whatever_the_handler_raises() -> None:
    for error in (RecordGone(Task()), KeyError("gone")):
        record = Record.objects.create()
        task = claimed(record.tasks.enqueue("work.tried"))
        record.delete()
        outcome = execute(attempt(task, raising(error)))
        assert isinstance(outcome, Ending)
        assert (outcome.state, outcome.reason) == (State.CANCELLED, "record deleted")


def test_a_deleted_record_does_not_undo_what_a_handler_returned() -> None:
    record = Record.objects.create()
    task = claimed(record.tasks.enqueue("work.tried"))
    record.delete()
    outcome = execute(attempt(task, lambda task: "done"))
    assert isinstance(outcome, Ending)
    assert outcome.state == State.COMPLETED


def test_a_key_that_is_none_for_the_model_leaves_the_handlers_error() -> None:
    record = Record.objects.create()
    task = claimed(record.tasks.enqueue("work.tried"))
    task.object_id = "not a number"
    outcome = execute(attempt(task, raising(KeyError("own"))))
    assert isinstance(outcome, Later)
    assert outcome.failure.exception == "builtins.KeyError"


def test_an_atomic_handler_writes_its_own_ending() -> None:
    task = claimed(enqueue("work.tried"))
    outcome = execute(
        attempt(task, lambda task: Effect.objects.create(key="x", pid=1).key, atomic=True)
    )
    assert outcome == Written(task_id=task.pk, lease=1)
    task.refresh_from_db()
    assert (task.state, task.result) == (State.COMPLETED, "x")
    assert task.finished_at


@pytest.mark.django_db(transaction=True)
def test_an_atomic_handler_that_lost_its_lease_leaves_nothing() -> None:
    task = claimed(enqueue("work.tried"))
    Task.objects.update(lease=2)
    outcome = execute(
        attempt(task, lambda task: Effect.objects.create(key="x", pid=1).key, atomic=True)
    )
    assert outcome == Written(task_id=task.pk, lease=1, lost=True)
    assert not Effect.objects.exists()
    assert Task.objects.get().state == State.RUNNING


@pytest.mark.django_db(transaction=True)
def test_an_atomic_handler_that_raises_leaves_nothing_and_is_tried_again() -> None:
    def half(task: Task) -> None:
        Effect.objects.create(key="x", pid=1)
        raise Rude

    assert isinstance(run(half, atomic=True), Later)
    assert not Effect.objects.exists()
    assert not connection.in_atomic_block


def test_inside_a_handler_the_task_logs_to_its_attempt_and_is_the_current_one() -> None:
    said: list[str] = []

    def talk(task: Task) -> None:
        task.log("one")
        said.append(str(enqueue("work.child").context["origin"]))

    def say(attempt: Attempt, line: Any) -> None:
        said.append(line.text)

    task = claimed(enqueue("work.tried"))
    execute(attempt(task, talk, say=say))
    assert said == ["one", f"task:{task.pk}"]
    assert enqueue("work.child").context == {}


def test_an_async_handler_has_its_record_loaded_and_its_errors_kept() -> None:
    async def work(task: Task) -> str:
        await asyncio.sleep(0)
        return str(task.record)

    async def fail(task: Task) -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    record = Record.objects.create(name="loaded")
    task = claimed(record.tasks.enqueue("work.tried"))
    run_async = async_to_sync(execute_async)
    outcome = run_async(attempt(task, work, is_async=True))
    assert isinstance(outcome, Ending)
    assert outcome.result == '"loaded"'
    assert isinstance(run_async(attempt(task, fail, is_async=True)), Later)
