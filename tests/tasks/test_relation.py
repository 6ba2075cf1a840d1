"""Which record owns a task, and what becomes of the tasks when it is deleted."""

import re
import uuid
from functools import partial
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from tasks import build, enqueue
from tasks.exceptions import InvalidTask, RecordGone, RecordNotSaved
from tasks.models import LogLine, Prerequisite, State, Task, TaskEvent, TaskRelation
from tests.tasks.tools import finish, start, state_of, threads, wait_until_blocked
from tests.workload.models import (
    Account,
    ChildRecord,
    Erasable,
    Heir,
    Parcel,
    ProxyRecord,
    Record,
)

pytestmark = pytest.mark.django_db


def test_a_record_has_its_own_tasks_and_no_others() -> None:
    one, two = Record.objects.create(), Record.objects.create()
    heir = Heir.objects.create(pk=one.pk)
    mine = one.tasks.enqueue("math.add", {"a": 1}, priority=3)
    two.tasks.enqueue("math.add")
    enqueue("math.add")
    assert list(one.tasks.all()) == [mine]
    assert (mine.priority, mine.data) == (3, {"a": 1})
    assert one.tasks.named("math.add").due().count() == 1
    assert not heir.tasks.exists()


def test_the_model_answers_with_the_relation_and_a_record_with_its_tasks() -> None:
    assert isinstance(Record.tasks, TaskRelation)
    assert Record.objects.create().tasks.model is Task


def test_a_task_loads_its_record_once(django_assert_num_queries: Any) -> None:
    record = Record.objects.create(name="ada")
    task = record.tasks.enqueue("math.add")
    loaded = Task.objects.get(pk=task.pk)
    with django_assert_num_queries(1):
        assert loaded.record.name == "ada"
        assert loaded.record is loaded.record
    with django_assert_num_queries(0):
        assert task.record is record


def test_the_record_is_found_whatever_its_default_manager_hides() -> None:
    heir = Heir.objects.create(name="hidden")
    task = heir.tasks.enqueue("math.add")
    assert not Heir.objects.exists()
    assert Task.objects.get(pk=task.pk).record == heir


@pytest.mark.parametrize("given", ["uuid", "text", "hex"])
def test_a_uuid_key_is_one_key_however_it_was_written(given: str) -> None:
    key = uuid.uuid4()
    spelled: Any = {"uuid": key, "text": str(key), "hex": key.hex}[given]
    parcel = Parcel.objects.create(id=spelled)
    parcel.tasks.enqueue("math.add")
    loaded = Parcel.objects.get()
    assert loaded.tasks.get().record == loaded
    assert loaded.tasks.get().object_id == str(key)


def test_a_child_and_a_proxy_share_the_tasks_of_the_record_they_are() -> None:
    child = ChildRecord.objects.create()
    child.tasks.enqueue("math.add")
    proxy = ProxyRecord.objects.get()
    proxy.tasks.enqueue("math.sum")
    assert Record.objects.get().tasks.count() == child.tasks.count() == proxy.tasks.count() == 2
    assert type(Task.objects.first().record) is Record  # type: ignore[union-attr]


def test_a_model_without_a_relation_may_own_tasks() -> None:
    account = Account.objects.create()
    task = enqueue("math.add", record=account)
    assert list(Task.objects.of(account)) == [task]
    assert Task.objects.get().record == account


def test_who_asks_for_the_tasks_of_an_unsaved_record_is_told() -> None:
    with pytest.raises(RecordNotSaved):
        Record().tasks.count()


def test_a_deleted_record_cannot_get_tasks() -> None:
    record = Record.objects.create()
    record.delete()
    with pytest.raises(RecordNotSaved):
        record.tasks.enqueue("math.add")


def test_a_task_of_a_deleted_record_says_that_it_is_gone() -> None:
    record = Record.objects.create()
    task = record.tasks.enqueue("math.add")
    assert task.record_is_gone() is False
    record.delete()
    loaded = Task.objects.get(pk=task.pk)
    with pytest.raises(RecordGone, match=str(task.pk)):
        _ = loaded.record
    assert loaded.record_is_gone() is True
    assert enqueue("math.add").record_is_gone() is False


def test_a_task_whose_model_was_removed_says_that_its_record_is_gone() -> None:
    record = Record.objects.create()
    task = record.tasks.enqueue("math.add")
    stale = ContentType.objects.create(app_label="gone", model="gone")
    for content_type in (stale.pk, 2**31 - 1):
        Task.objects.filter(pk=task.pk).update(content_type_id=content_type)
        loaded = Task.objects.get(pk=task.pk)
        with pytest.raises(RecordGone):
            _ = loaded.record
        assert loaded.record_is_gone()
    # Its row is rolled back, and SQLite gives its id to the next one.
    ContentType.objects.clear_cache()


def delete_all(record: Any) -> None:
    type(record).objects.filter(pk=record.pk).delete()


@pytest.mark.parametrize("model", [Record, ProxyRecord, ChildRecord, Heir, Parcel])
@pytest.mark.parametrize("delete", [lambda record: record.delete(), delete_all])
def test_deleting_a_record_cancels_what_had_not_run(model: Any, delete: Any) -> None:
    record = model.objects.create()
    due = record.tasks.enqueue("math.add", unique_key="5")
    later = record.tasks.enqueue("math.add", delay=60)
    waiting = record.tasks.enqueue("math.sum", after=[due])
    running = start(record.tasks.enqueue("math.add"))
    failed = finish(record.tasks.enqueue("math.add"), State.FAILED)
    completed = finish(record.tasks.enqueue("math.add"))
    other = model.objects.create().tasks.enqueue("math.add")
    delete(record)
    for task in (due, later, waiting):
        task.refresh_from_db()
        assert (task.state, task.reason, task.live_key) == (State.CANCELLED, "record deleted", None)
        assert task.finished_at is not None
    states = [state_of(task) for task in (running, failed, completed, other)]
    assert states == [State.RUNNING, State.FAILED, State.COMPLETED, State.SCHEDULED]


def test_deleting_a_record_cancels_what_others_have_waiting_for_its_tasks() -> None:
    record = Record.objects.create()
    dependent = enqueue("math.sum", after=[record.tasks.enqueue("math.add")])
    below = enqueue("math.sum", after=[dependent])
    record.delete()
    assert (state_of(dependent), state_of(below)) == (State.CANCELLED, State.CANCELLED)


def test_a_child_deleted_alone_leaves_the_record_and_its_tasks() -> None:
    child = ChildRecord.objects.create()
    task = child.tasks.enqueue("math.add")
    child.delete(keep_parents=True)
    assert state_of(task) == State.SCHEDULED
    Record.objects.get().delete()
    assert state_of(task) == State.CANCELLED


def test_a_record_deleted_by_a_cascade_cancels_its_tasks() -> None:
    child = ChildRecord.objects.create()
    task = child.tasks.enqueue("math.add")
    Record.objects.all().delete()
    assert state_of(task) == State.CANCELLED


def test_a_deletion_that_is_rolled_back_cancels_nothing() -> None:
    record = Record.objects.create()
    task = record.tasks.enqueue("math.add")
    with transaction.atomic():
        record.delete()
        transaction.set_rollback(True)
    assert state_of(task) == State.SCHEDULED


def test_delete_with_record_erases_the_tasks_and_all_their_history() -> None:
    record = Erasable.objects.create()
    task = finish(record.tasks.enqueue("math.add"), State.FAILED)
    record.tasks.enqueue("math.sum", after=[task])
    start(record.tasks.enqueue("math.add"))
    task.log("a line")
    task.retry(by="eve")
    task.failures.create(attempt=1, exception="x.Y")
    kept = Erasable.objects.create().tasks.enqueue("math.add")
    record.delete()
    assert list(Task.objects.all()) == [kept]
    for model in (LogLine, TaskEvent, Prerequisite):
        assert not model.objects.exists()


@pytest.mark.parametrize("state", [State.SCHEDULED, State.RUNNING, State.FAILED])
def test_delete_with_record_leaves_nobody_waiting_for_an_erased_task(state: str) -> None:
    record = Erasable.objects.create()
    task = record.tasks.enqueue("math.add")
    dependent = enqueue("math.sum", after=[task])
    if state == State.RUNNING:
        start(task)
    elif state == State.FAILED:
        finish(task, state)
    record.delete()
    assert state_of(dependent) == State.CANCELLED


def test_delete_with_record_lets_those_go_on_that_no_longer_waited() -> None:
    record = Erasable.objects.create()
    first, other = record.tasks.enqueue("math.add"), enqueue("math.add")
    dependent = enqueue("math.sum", after=[first, other])
    finish(first)
    record.delete()
    assert state_of(dependent) == State.WAITING
    finish(other)
    assert state_of(dependent) == State.SCHEDULED


@pytest.mark.django_db(transaction=True)
def test_delete_with_record_lets_nobody_act_on_its_tasks_meanwhile() -> None:
    record = Erasable.objects.create()
    task = finish(record.tasks.enqueue("math.add"))

    def meanwhile(execute: Any, sql: str, *rest: Any) -> Any:
        if re.match(r"DELETE FROM .tasks_task. ", sql):
            acted.append(run(partial(task.run_again, by="eve", reason="now")))
            wait_until_blocked()
        return execute(sql, *rest)

    acted: list[Any] = []
    with threads(1) as run, connection.execute_wrapper(meanwhile):
        record.delete()
        with pytest.raises(Task.DoesNotExist):
            acted[0].result(timeout=30)
    assert not TaskEvent.objects.exists()


def test_a_task_on_another_database_than_its_record_is_refused() -> None:
    with pytest.raises(InvalidTask, match="the database of its record"):
        build("math.add", record=Record.objects.create(), using="other")
