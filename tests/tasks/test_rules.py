from collections.abc import Iterator
from typing import Any

import pytest
from django.core import serializers
from django.db import transaction
from django.db.models.signals import post_save, pre_save

from tasks import build, emit, enqueue, on_create, on_event, on_save
from tasks.exceptions import InvalidData, InvalidHandler, InvalidTask
from tasks.models import State, Task
from tasks.rules import without_rules
from tests.workload.models import (
    Account,
    Bystander,
    ChildRecord,
    Heir,
    Owner,
    ProxyRecord,
    Record,
)

pytestmark = pytest.mark.django_db


def names() -> list[str]:
    return [task.name for task in Task.objects.order_by("id")]


def greet(record: Record) -> Iterator[Task]:
    first = record.tasks.build("mail.greet", {"to": record.name}, priority=9)
    yield first
    yield record.tasks.build("mail.remind", after=[first])


def fail(record: Record) -> Iterator[Task]:
    yield record.tasks.build("mail.greet")
    raise ZeroDivisionError


def test_a_new_record_gets_the_tasks_that_its_rule_yields() -> None:
    on_create(Record)(greet)
    record = Record.objects.create(name="ada")
    greeting, reminder = record.tasks.order_by("id")
    assert (greeting.data, greeting.priority, greeting.due) == ({"to": "ada"}, 9, True)
    assert reminder.state == State.WAITING
    assert greeting.record == reminder.record == record
    assert greeting.context["rule"] == "tests.tasks.test_rules.greet"
    record.save()
    assert record.tasks.count() == 2


def test_all_tasks_of_one_save_are_one_insert(django_assert_num_queries: Any) -> None:
    on_create(Record)(greet)
    on_save(Record)(lambda record: record.tasks.build("crm.sync"))
    on_create(Record)(lambda record: [record.tasks.build("math.add")] * 2)
    Record.objects.create()
    # The record, its tasks, and that one waits for another.
    with transaction.atomic(), django_assert_num_queries(3):
        Record.objects.create()
    assert names() == ["mail.greet", "crm.sync", "math.add", "mail.remind"] * 2


@pytest.mark.parametrize("rule", ["create", "save"])
def test_a_rule_decides_between_creating_and_saving(rule: str) -> None:
    register = on_create(Record) if rule == "create" else on_save(Record)
    register(lambda record: record.tasks.build("math.add"))
    record = Record.objects.create()
    record.save()
    record.save(update_fields=["name"])
    assert len(names()) == (1 if rule == "create" else 3)


@pytest.mark.django_db(transaction=True)
def test_under_autocommit_a_rule_that_raises_leaves_no_record_and_no_task() -> None:
    on_create(Record)(greet)
    on_create(Record)(fail)
    with pytest.raises(ZeroDivisionError):
        Record.objects.create()
    assert not Record.objects.exists()
    assert not Task.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_under_autocommit_also_a_model_without_a_relation_is_saved_with_its_tasks() -> None:
    on_create(Account)(lambda account: build("mail.greet", record=account))
    on_create(ChildRecord)(fail)
    Account.objects.create()
    assert names() == ["mail.greet"]
    with pytest.raises(ZeroDivisionError):
        ChildRecord.objects.create()
    assert not Record.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("data", "error"), [({"x": object()}, InvalidData), ({1: 2}, InvalidTask)])
def test_a_rule_with_bad_data_undoes_the_save(data: Any, error: type[Exception]) -> None:
    on_create(Record)(lambda record: record.tasks.build("mail.greet", data))
    with pytest.raises(error):
        Record.objects.create()
    assert not Record.objects.exists()


@pytest.mark.parametrize("model", [ProxyRecord, ChildRecord])
def test_rules_of_a_model_fire_for_its_proxies_and_children(model: type[Record]) -> None:
    on_create(Record)(greet)
    record = model.objects.create(name="ada")
    assert names() == ["mail.greet", "mail.remind"]
    assert Record.objects.get().tasks.count() == 2
    assert {task.record.pk for task in record.tasks.all()} == {record.pk}


def test_rules_of_a_proxy_or_a_child_do_not_fire_for_the_parent() -> None:
    on_create(ProxyRecord)(lambda record: record.tasks.build("rule.proxy"))
    on_create(ChildRecord)(lambda record: record.tasks.build("rule.child"))
    Record.objects.create()
    assert names() == []
    ProxyRecord.objects.create()
    ChildRecord.objects.create()
    assert names() == ["rule.proxy", "rule.child"]


def test_a_child_fires_the_rules_of_its_parents_first_and_each_once() -> None:
    on_create(ChildRecord)(lambda record: record.tasks.build("rule.child"))
    on_create(Record)(lambda record: record.tasks.build("rule.parent"))
    ChildRecord.objects.create()
    assert names() == ["rule.parent", "rule.child"]


def test_rules_of_an_abstract_parent_fire_for_its_heirs() -> None:
    on_create(Owner)(lambda record: record.tasks.build("rule.owner"))
    heir = Heir.objects.create()
    assert heir.tasks.get().name == "rule.owner"


def test_only_the_models_concerned_have_receivers() -> None:
    on_create(Record)(greet)
    on_save(Account, fields=["name"])(lambda account: None)
    for signal in (pre_save, post_save):
        assert not signal.has_listeners(Bystander)
        assert not signal.has_listeners(Task)
        assert signal.has_listeners(ProxyRecord)
        assert signal.has_listeners(Account)


def test_fixtures_bulk_writes_and_updates_fire_no_rule() -> None:
    on_save(Record)(lambda record: record.tasks.build("math.add"))
    with without_rules():
        record = Record.objects.create(name="ada")
    fixture = serializers.serialize("json", [record])
    Record.objects.bulk_create([Record(name="b")])
    Record.objects.update(name="c")
    for loaded in serializers.deserialize("json", fixture):
        loaded.save()
    assert names() == []
    assert Record.objects.get(pk=record.pk).name == "ada"


def test_without_rules_is_over_after_its_block_also_when_it_raises() -> None:
    on_create(Record)(greet)
    with pytest.raises(ZeroDivisionError), without_rules():
        raise ZeroDivisionError
    Record.objects.create()
    assert names() == ["mail.greet", "mail.remind"]


@pytest.mark.parametrize("answer", [None, [], ()])
def test_a_rule_may_want_nothing(answer: Any) -> None:
    on_create(Record)(lambda record: answer)
    Record.objects.create()
    assert names() == []


@pytest.mark.parametrize("answer", ["mail.greet", [5], [None], 5, [["x"]]])
def test_a_rule_that_yields_something_else_is_named_in_the_error(answer: Any) -> None:
    on_create(Record)(lambda record: answer)
    with pytest.raises(InvalidHandler, match="test_a_rule_that_yields_something_else"):
        Record.objects.create()


def test_a_rule_may_enqueue_by_itself_and_yield_what_it_got() -> None:
    def rule(record: Record) -> Iterator[Task]:
        enqueued = record.tasks.enqueue("math.add")
        yield enqueued
        yield build("math.sum", after=[enqueued])

    on_create(Record)(rule)
    Record.objects.create()
    assert names() == ["math.add", "math.sum"]


def test_an_event_calls_its_rules_with_the_record_and_the_payload() -> None:
    @on_event("order.paid")
    def rule(record: Record, amount: int, currency: str = "EUR") -> Iterator[Task]:
        yield record.tasks.build("mail.receipt", {"sum": f"{amount} {currency}"})

    record = Record.objects.create()
    tasks = emit("order.paid", record, amount=5)
    assert [task.data for task in tasks] == [{"sum": "5 EUR"}]
    assert record.tasks.get() == tasks[0]
    assert tasks[0].context["rule"].endswith(".rule")


def test_an_event_needs_neither_a_record_nor_a_rule() -> None:
    assert emit("nobody.listens") == []
    on_event("night.fell")(lambda record: build("math.add"))
    assert [task.record for task in emit("night.fell")] == [None]
    with without_rules():
        assert emit("night.fell") == []


@pytest.mark.django_db(transaction=True)
def test_an_event_whose_second_rule_raises_creates_nothing() -> None:
    on_event("order.paid")(greet)
    on_event("order.paid")(fail)
    record = Record.objects.create()
    with pytest.raises(ZeroDivisionError):
        emit("order.paid", record)
    assert not Task.objects.exists()


def test_a_failed_event_does_not_break_the_transaction_around_it() -> None:
    def rule(record: Any) -> Iterator[Task]:
        enqueue("math.add")
        raise ZeroDivisionError
        yield

    on_event("order.paid")(rule)
    with pytest.raises(ZeroDivisionError):
        emit("order.paid")
    assert not Task.objects.exists()
