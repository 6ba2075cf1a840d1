"""A host that keeps records in two databases."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import Model
from django.test import override_settings

from tasks import build, emit, enqueue, enqueue_many, on_create, on_event
from tasks.exceptions import InvalidTask
from tasks.models import State, Task
from tests.tasks.tools import finish
from tests.workload.models import Record

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture(autouse=True)
def _content_types_differ(db: None) -> Iterator[None]:
    """The other database was migrated in another order once."""
    types = ContentType.objects.using("other")
    with connections["other"].constraint_checks_disabled():
        types.filter(app_label="workload").delete()
        for model in ("gone1", "gone2", "gone3"):
            types.create(app_label="gone", model=model)
    ContentType.objects.clear_cache()
    yield
    ContentType.objects.clear_cache()


def test_tasks_live_beside_their_record_with_that_databases_content_type() -> None:
    here = Record.objects.create(name="here")
    there = Record.objects.using("other").create(name="there", pk=here.pk)
    mine, theirs = here.tasks.enqueue("math.add"), there.tasks.enqueue("math.add")
    assert mine.content_type_id != theirs.content_type_id
    assert Task.objects.using("default").get() == mine
    assert Task.objects.using("other").get().pk == theirs.pk
    assert Task.objects.using("default").get().record.name == "here"
    assert Task.objects.using("other").get().record.name == "there"
    assert here.tasks.get().record.name == "here"
    assert there.tasks.get().record.name == "there"


def test_a_rule_writes_where_the_record_is_saved() -> None:
    on_create(Record)(lambda record: record.tasks.build("math.add"))
    Record(name="there").save(using="other")
    assert not Task.objects.using("default").exists()
    assert Task.objects.using("other").get().record.name == "there"


def test_a_rule_that_raises_undoes_the_save_on_its_own_database() -> None:
    def rule(record: Record) -> Iterator[Task]:
        yield record.tasks.build("math.add")
        raise ZeroDivisionError

    on_create(Record)(rule)
    here = connections["default"]
    with pytest.raises(ZeroDivisionError):
        Record(name="there").save(using="other")
    assert connections["other"].needs_rollback is True
    assert here.needs_rollback is False
    connections["other"].set_rollback(False)


def test_a_task_without_a_record_goes_where_it_is_told() -> None:
    enqueue("math.add", using="other")
    on_event("night.fell")(lambda record: build("math.sum", using="other"))
    emit("night.fell", using="other")
    assert Task.objects.using("other").count() == 2
    assert not Task.objects.using("default").exists()


def test_one_call_may_create_tasks_in_both() -> None:
    tasks = enqueue_many([build("math.add"), build("math.sum", using="other"), build("math.add")])
    assert [task._state.db for task in tasks] == ["default", "other", "default"]
    assert Task.objects.using("default").count() == 2
    assert Task.objects.using("other").count() == 1


def test_a_task_cannot_wait_for_one_in_another_database() -> None:
    there = enqueue("math.add", using="other")
    with pytest.raises(InvalidTask, match="'other'"):
        enqueue("math.sum", after=[there])
    assert not Task.objects.using("default").exists()


def test_actions_and_prerequisites_work_in_the_tasks_own_database() -> None:
    first = enqueue("math.add", using="other", unique_key="5")
    task = enqueue("math.sum", using="other", after=[first])
    first.cancel(by="eve")
    task.refresh_from_db()
    assert task.state == State.CANCELLED
    task.retry(by="eve", reason="no need to wait")
    finish(task)
    assert task.state == State.COMPLETED
    assert [event.action for event in task.events.all()] == ["retry"]
    assert enqueue("math.add", unique_key="5")._state.db == "default"


def test_deleting_a_record_cancels_the_tasks_in_its_own_database_only() -> None:
    here = Record.objects.create()
    there = Record.objects.using("other").create(pk=here.pk)
    mine, theirs = here.tasks.enqueue("math.add"), there.tasks.enqueue("math.add")
    there.delete()
    mine.refresh_from_db()
    theirs.refresh_from_db()
    assert (mine.state, theirs.state) == (State.SCHEDULED, State.CANCELLED)


def test_a_record_moved_by_hand_gets_its_tasks_where_it_went() -> None:
    record: Any = Record.objects.create()
    record.save(using="other")
    assert record.tasks.enqueue("math.add")._state.db == "other"


class ToThePrimary:
    """A router with a replica to read from."""

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return "default"


@override_settings(DATABASE_ROUTERS=[ToThePrimary()])
def test_a_record_read_from_a_replica_gets_its_tasks_where_it_is_written() -> None:
    record = Record.objects.using("default").create(name="r")
    record._state.db = "other"
    task = record.tasks.enqueue("math.add")
    assert Task.objects.using("default").filter(pk=task.pk).exists()
    assert not Task.objects.using("other").exists()
