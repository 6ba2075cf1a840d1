from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from tasks import build, enqueue, enqueue_many, handler
from tasks.exceptions import InvalidTask, RecordNotSaved
from tasks.handlers import current_task
from tasks.models import State, Task
from tests.workload.models import Parcel, Record

pytestmark = pytest.mark.django_db


def rows_in_one_insert() -> int:
    """How many rows this database takes in one bulk INSERT of ours."""
    fields = [field for field in Task._meta.concrete_fields if not field.primary_key]
    tasks = [build("math.add")] * 2000
    return min(2000, connection.ops.bulk_batch_size(fields, tasks))


def inserts(queries: Any) -> list[str]:
    statements = [query["sql"] for query in queries.captured_queries]
    return [sql for sql in statements if sql.startswith("INSERT") and "tasks_task" in sql]


def test_a_new_task_is_due_and_has_the_defaults() -> None:
    task = enqueue("math.add", {"a": 1})
    task.refresh_from_db()
    assert (task.type, task.action, task.name) == ("math", "add", "math.add")
    assert (task.state, task.due, task.shown_state) == (State.SCHEDULED, True, "due")
    assert (task.queue, task.priority, task.max_attempts, task.timeout) == ("default", 0, 5, None)
    assert (task.attempts, task.lease, task.worker_id, task.result) == (0, 0, None, None)
    assert task.record is None
    assert task.context == {}
    assert task.created_at == task.run_at


def test_two_tasks_have_different_idempotency_keys_that_stay() -> None:
    one, two = enqueue("math.add"), enqueue("math.add")
    assert one.idempotency_key != two.idempotency_key
    assert Task.objects.get(pk=one.pk).idempotency_key == one.idempotency_key


def test_the_handlers_options_are_the_defaults_and_the_call_overrides_them() -> None:
    handler("math.add", queue="sums", priority=3, max_attempts=2, timeout=9)(lambda task: None)
    task = enqueue("math.add")
    assert (task.queue, task.priority, task.max_attempts, task.timeout) == ("sums", 3, 2, 9)
    task = enqueue("math.add", queue="own", priority=0, max_attempts=7, timeout=0.5)
    assert (task.queue, task.priority, task.max_attempts, task.timeout) == ("own", 0, 7, 0.5)


def test_settings_give_the_queue_and_the_attempts_of_tasks_without_a_handler(
    settings: Any,
) -> None:
    settings.AFTERSAVE = {"DEFAULT_QUEUE": "slow", "MAX_ATTEMPTS": 9}
    task = build("math.add")
    assert (task.queue, task.max_attempts) == ("slow", 9)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"queue": ""}, "queue"),
        ({"queue": "a,b"}, "queue"),
        ({"queue": "x" * 65}, "queue"),
        ({"queue": "a\x00"}, "queue"),
        ({"queue": "a\nb"}, "queue"),
        ({"queue": "\ud800"}, "queue"),
        ({"priority": 32768}, "priority"),
        ({"priority": -32769}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout": 0}, "timeout"),
        ({"run_at": datetime(2026, 1, 1)}, "aware"),
        ({"run_at": timezone.now(), "delay": 5}, "not both"),
        ({"delay": 1e300}, "delay"),
        ({"delay": timedelta.max}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"after": ["math.add"]}, "after"),
        ({"unique_key": "k" * 250}, "255"),
        ({"unique_key": "k "}, "space"),
        ({"unique_key": "\x00"}, "NUL"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_the_call(
    options: dict[str, Any], word: str
) -> None:
    with pytest.raises(InvalidTask, match=word) as caught:
        enqueue("math.add", **options)
    assert "math.add" in str(caught.value)
    assert not Task.objects.exists()


@pytest.mark.parametrize("delay", [60, 60.0, timedelta(minutes=1)])
def test_a_delayed_task_is_not_due_before_its_time(delay: Any) -> None:
    before = timezone.now()
    task = enqueue("math.add", delay=delay)
    assert before <= task.run_at - timedelta(minutes=1) <= timezone.now()
    assert (task.state, task.due, task.shown_state) == (State.SCHEDULED, False, "later")
    assert list(Task.objects.later()) == [task]
    assert not Task.objects.due().exists()


def test_run_at_is_kept_and_decides_whether_the_task_is_due() -> None:
    now = timezone.now()
    past, future = now - timedelta(days=1), now + timedelta(days=1)
    assert enqueue("math.add", run_at=past).due is True
    task = enqueue("math.add", run_at=future)
    assert task.due is False
    assert Task.objects.get(pk=task.pk).run_at == future


@pytest.mark.parametrize("delay", [0, -5, timedelta(0)])
def test_no_delay_means_due_at_once(delay: Any) -> None:
    assert enqueue("math.add", delay=delay).due is True


def test_one_insert_for_every_two_thousand_rows(django_assert_num_queries: Any) -> None:
    fitting = rows_in_one_insert()
    tasks = [build("math.add", {"n": n}) for n in range(2001)]
    with django_assert_num_queries(-(-2001 // fitting)) as queries:
        created = enqueue_many(tasks)
    assert len(inserts(queries)) == len(queries.captured_queries)
    assert created == tasks
    assert len({task.pk for task in created}) == Task.objects.count() == 2001


def test_enqueue_is_one_statement_in_an_open_transaction(django_assert_num_queries: Any) -> None:
    record = Record.objects.create()
    record.tasks.enqueue("math.add")
    with transaction.atomic(), django_assert_num_queries(1):
        enqueue("math.add")
        transaction.get_connection().ensure_connection()
    with django_assert_num_queries(1):
        record.tasks.enqueue("math.add")


def test_enqueue_many_of_nothing_asks_nothing(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert enqueue_many([]) == []


def test_enqueue_many_answers_in_the_order_given_and_takes_a_generator() -> None:
    created = enqueue_many(build("math.add", {"n": n}) for n in range(5))
    assert [task.data["n"] for task in created] == [0, 1, 2, 3, 4]
    assert [task.pk for task in created] == sorted(task.pk for task in created)


def test_a_task_given_twice_is_written_once() -> None:
    task = build("math.add")
    assert enqueue_many([task, task]) == [task, task]
    assert Task.objects.count() == 1


def test_a_task_that_exists_cannot_be_enqueued_again() -> None:
    task = enqueue("math.add")
    with pytest.raises(InvalidTask, match="exists already"):
        enqueue_many([build("math.add"), task])
    assert Task.objects.count() == 1


def test_a_rolled_back_transaction_leaves_no_task() -> None:
    with transaction.atomic():
        Record.objects.create().tasks.enqueue("math.add")
        transaction.set_rollback(True)
    assert not Task.objects.exists()
    assert not Record.objects.exists()


def test_a_task_knows_the_task_whose_handler_made_it() -> None:
    parent = enqueue("math.add")
    token = current_task.set(parent)
    try:
        child = enqueue("math.add")
    finally:
        current_task.reset(token)
    assert Task.objects.get(pk=child.pk).context == {"origin": f"task:{parent.pk}"}


def test_a_record_without_a_row_cannot_own_tasks() -> None:
    with pytest.raises(RecordNotSaved, match="Record is not saved"):
        Record().tasks.enqueue("math.add")


def test_a_record_that_has_a_key_but_no_row_cannot_own_tasks() -> None:
    with pytest.raises(RecordNotSaved, match="Parcel is not saved"):
        build("math.add", record=Parcel())


def test_a_record_that_is_false_owns_its_tasks() -> None:
    parcel = Parcel.objects.create()
    assert not parcel
    enqueue("math.add", record=parcel)
    assert parcel.tasks.get().record == parcel
