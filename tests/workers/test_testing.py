import logging
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import TestCase
from django.utils import timezone

from tasks import Cancel, Fail, Retry, enqueue, handler, on_create
from tasks.handlers import registry
from tasks.models import Queue, State, Task
from tests.workload.models import Effect, Record
from workers.testing import HandlerMissing, assert_enqueued, run_tasks, without_rules

pytestmark = pytest.mark.django_db


def states() -> list[str]:
    return list(Task.objects.order_by("pk").values_list("state", flat=True))


def test_a_task_runs_inside_the_tests_transaction_and_comes_back_as_it_is_now() -> None:
    assert connection.in_atomic_block
    task = enqueue("work.effect")
    (ran,) = run_tasks()
    assert ran == task
    assert (ran.state, ran.attempts, ran.lease) == (State.COMPLETED, 1, 1)
    assert set(ran.result) == {"pid"}
    assert ran.started_at is not None
    assert ran.started_at <= timezone.now()
    assert Effect.objects.get().key == str(task.pk)
    assert run_tasks() == []


def test_an_atomic_handlers_task_completes_with_its_writes() -> None:
    task = enqueue("work.atomic")
    run_tasks()
    task.refresh_from_db()
    assert task.state == State.COMPLETED
    assert Effect.objects.count() == 1


def test_an_async_handler_sees_the_tests_transaction() -> None:
    record = Record.objects.create(name="seen")
    record.tasks.enqueue("work.async")
    (ran,) = run_tasks()
    assert (ran.state, ran.result) == (State.COMPLETED, "seen")


def test_what_a_prerequisite_releases_runs_too() -> None:
    first = enqueue("work.noop")
    second = enqueue("work.noop", after=[first])
    third = enqueue("work.noop", after=[second], priority=9)
    assert run_tasks() == [first, second, third]
    assert set(states()) == {State.COMPLETED}


def test_what_a_handler_enqueues_runs_too() -> None:
    handler("work.parent")(lambda task: enqueue("work.noop") and None)
    enqueue("work.parent")
    assert [task.name for task in run_tasks()] == ["work.parent", "work.noop"]


def test_a_failed_attempt_waits_for_its_retry_and_does_not_raise() -> None:
    enqueue_broken()
    (ran,) = run_tasks()
    assert (ran.state, ran.attempts, ran.shown_state) == (State.SCHEDULED, 1, "retrying")
    assert ran.failures.get().message == "no luck"


def enqueue_broken() -> Task:
    """A task to be tried again so late that no test meets the second attempt."""

    def broken(task: Task) -> None:
        raise ValueError("no luck")

    handler("work.broken", backoff=3600)(broken)
    return enqueue("work.broken")


def test_a_retry_at_once_runs_again_in_the_same_call_and_is_listed_once() -> None:
    enqueue("work.decide", {"decision": "retry"})
    (ran,) = run_tasks()
    assert (ran.state, ran.attempts) == (State.COMPLETED, 2)


@pytest.mark.parametrize(
    ("raised", "state"),
    [(Fail("refused"), State.FAILED), (Cancel("withdrawn"), State.CANCELLED)],
)
def test_fail_and_cancel_decide_as_in_a_worker(raised: Exception, state: str) -> None:
    def decide(task: Task) -> None:
        raise raised

    handler("work.ends")(decide)
    enqueue("work.ends")
    (ran,) = run_tasks()
    assert (ran.state, ran.reason) == (state, str(raised))


def test_tasks_for_later_do_not_run_and_those_whose_time_came_do() -> None:
    later = enqueue("work.noop", delay=3600)
    assert run_tasks() == []
    Task.objects.filter(pk=later.pk).update(run_at=timezone.now() - timedelta(seconds=1))
    assert run_tasks() == [later]


def test_only_the_queues_asked_for_run_and_paused_ones_never() -> None:
    one, two = enqueue("work.noop", queue="one"), enqueue("work.noop", queue="two")
    Queue.objects.create(name="three", paused_at=timezone.now())
    enqueue("work.noop", queue="three")
    assert run_tasks(queues=["two", "three"]) == [two]
    assert run_tasks() == [one]


def test_higher_priority_runs_first_and_the_limit_counts_attempts() -> None:
    low, high = enqueue("work.noop"), enqueue("work.noop", priority=1)
    assert run_tasks(limit=1) == [high]
    assert run_tasks() == [low]


def test_an_endless_retry_stops_at_the_limit() -> None:
    def again(task: Task) -> None:
        raise Retry(after=0)

    handler("work.again", max_attempts=50)(again)
    enqueue("work.again")
    (ran,) = run_tasks(limit=7)
    assert (ran.attempts, ran.shown_state) == (7, "due")


def test_an_unknown_name_is_a_clear_error_and_the_task_is_as_before() -> None:
    task = enqueue("work.unknown")
    with pytest.raises(HandlerMissing, match="'work.unknown' has no handler"):
        run_tasks()
    task.refresh_from_db()
    assert (task.state, task.due, task.attempts) == (State.SCHEDULED, True, 0)


def test_a_handler_that_breaks_the_tests_transaction_fails_and_the_test_goes_on() -> None:
    def twice(task: Task) -> None:
        for _ in range(2):
            Group.objects.create(name="only one")

    handler("work.twice", max_attempts=1)(twice)
    enqueue("work.twice")
    (ran,) = run_tasks()
    assert ran.state == State.FAILED
    assert "IntegrityError" in ran.failures.get().exception


def test_a_handler_that_raises_keeps_what_it_wrote_before_as_in_a_worker() -> None:
    def half(task: Task) -> None:
        Record.objects.create(name="first half")
        raise ValueError

    handler("work.half", max_attempts=1)(half)
    enqueue("work.half")
    run_tasks()
    assert Record.objects.get().name == "first half"


def test_what_a_handler_logs_and_its_progress_are_kept() -> None:
    enqueue("work.talk")
    (ran,) = run_tasks()
    assert "hello" in [line.text for line in ran.log_lines.all()]
    assert ran.progress_value == {"done": 1, "total": 2}


def test_a_rolled_back_block_leaves_nothing_to_run() -> None:
    with transaction.atomic():
        enqueue("work.noop")
        transaction.set_rollback(True)
    assert run_tasks() == []


def test_a_task_deleted_by_its_handler_is_not_listed() -> None:
    handler("work.vanish")(lambda task: Task.objects.filter(pk=task.pk).delete() and None)
    enqueue("work.vanish")
    assert run_tasks() == []


@pytest.mark.django_db(transaction=True)
def test_it_works_without_an_open_transaction() -> None:
    enqueue_broken()
    (ran,) = run_tasks()
    assert ran.shown_state == "retrying"


def test_assert_enqueued_finds_by_name_record_and_data() -> None:
    record = Record.objects.create()
    task = record.tasks.enqueue("math.add", {"a": 1})
    enqueue("math.add", {"a": 2})
    assert assert_enqueued("math.add", record=record) == [task]
    assert assert_enqueued("math.add", data={"a": 1}) == [task]
    assert_enqueued("math.add", count=2)
    assert_enqueued("math.sub", count=0)


def test_assert_enqueued_tells_what_was_enqueued_instead() -> None:
    record = Record.objects.create()
    with pytest.raises(AssertionError, match="found 0. No task was enqueued."):
        assert_enqueued("math.add")
    record.tasks.enqueue("math.add", {"a": 1})
    with pytest.raises(AssertionError) as caught:
        assert_enqueued("math.sub", record=record, data={"b": 1})
    text = str(caught.value)
    assert f"Expected 1 of math.sub for workload.Record {record.pk} with data {{'b': 1}}" in text
    assert f"math.add for workload.Record {record.pk} with data {{'a': 1}}, due" in text


def test_assert_enqueued_lists_twenty_tasks_at_most() -> None:
    for _ in range(21):
        enqueue("math.add")
    with pytest.raises(AssertionError) as caught:
        assert_enqueued("math.add")
    assert str(caught.value).count("#") == 20


def test_without_rules_no_save_enqueues(caplog: pytest.LogCaptureFixture) -> None:
    on_create(Record)(lambda record: record.tasks.build("work.noop"))
    try:
        with without_rules():
            Record.objects.create()
        assert_enqueued("work.noop", count=0)
        Record.objects.create()
        assert_enqueued("work.noop")
    finally:
        from tasks import rules

        rules._save_rules[Record].pop()
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


class InATestCase(TestCase):
    def test_tasks_run_without_a_commit(self) -> Any:
        with self.captureOnCommitCallbacks(execute=True):
            enqueue("work.noop")
        assert [task.state for task in run_tasks()] == [State.COMPLETED]
        assert registry.get("work.noop")
