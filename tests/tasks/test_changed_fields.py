"""``@on_save(fields=[...])``: the stored value differs before and after."""

from datetime import datetime
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from tasks import build, on_save
from tasks.exceptions import InvalidHandler
from tasks.models import Task
from tests.tasks.tools import threads, wait_until_blocked
from tests.workload.models import Account, Bystander, ChildRecord, Record

db = pytest.mark.django_db
races = pytest.mark.django_db(transaction=True)


def watch(*fields: str) -> None:
    on_save(Account, fields=fields)(lambda account: build("fields.changed", record=account))


def fired() -> int:
    count, _ = Task.objects.named("fields.changed").delete()
    return count


@pytest.fixture
def account(db: None) -> Account:
    return Account.objects.create(name="a", balance=1, limit="2.50")


def test_a_new_record_has_not_changed(account: Account) -> None:
    watch("name")
    Account.objects.create(name="b")
    Account(pk=4711, name="with a key of its own").save()
    assert fired() == 0


@pytest.mark.parametrize(
    ("change", "times"),
    [
        ({"name": "b"}, 1),
        ({"name": "a"}, 0),
        ({"balance": 2}, 0),
        ({"limit": "2.500"}, 0),
        ({"limit": 2.5}, 0),
        ({"limit": "2.51"}, 1),
        ({"name": Concat(F("name"), Value(""))}, 0),
        ({"name": Concat(F("name"), Value("x"))}, 1),
        ({"limit": F("limit") + 0}, 0),
        ({"limit": F("limit") + 1}, 1),
        ({"limit": F("balance") * 5}, 1),
    ],
    ids=str,
)
def test_a_rule_fires_when_a_stored_value_differs(
    account: Account, change: dict[str, Any], times: int
) -> None:
    watch("name", "limit")
    for name, value in change.items():
        setattr(account, name, value)
    account.save()
    assert fired() == times
    Account.objects.get().save()
    assert fired() == 0


def test_several_changed_fields_fire_a_rule_once(account: Account) -> None:
    watch("name", "limit")
    account.name, account.limit = "b", 9
    account.save()
    assert fired() == 1


def test_fields_that_are_not_written_have_not_changed(
    account: Account, django_assert_num_queries: Any
) -> None:
    watch("name")
    account.name = "b"
    with transaction.atomic(), django_assert_num_queries(1):
        account.save(update_fields=["balance"])
    assert fired() == 0
    account.save(update_fields=["name"])
    assert fired() == 1


def test_a_save_costs_one_look_before_it_and_nothing_after(
    account: Account, django_assert_num_queries: Any
) -> None:
    watch("name", "limit")
    loaded = Account.objects.get()
    with transaction.atomic(), django_assert_num_queries(2):
        loaded.save()


def test_deferred_fields_are_not_loaded_to_be_compared(
    account: Account, django_assert_num_queries: Any
) -> None:
    watch("name")
    deferred = Account.objects.defer("name").get()
    deferred.balance = 9
    with transaction.atomic(), django_assert_num_queries(1):
        deferred.save()
    assert fired() == 0
    only = Account.objects.only("name").get()
    only.name = "b"
    only.save()
    assert fired() == 1


def test_a_foreign_key_may_be_named_with_or_without_its_id(account: Account) -> None:
    watch("record")
    account.record = Record.objects.create()
    account.save()
    assert fired() == 1
    on_save(Account, fields=["record_id"])(lambda account: None)
    account.record = None
    account.save(update_fields=["record"])
    assert fired() == 1


def test_a_value_set_by_the_field_itself_counts(account: Account) -> None:
    watch("seen_at")
    before: datetime = account.seen_at
    account.save()
    assert account.seen_at != before
    assert fired() == 1


@db
def test_a_childs_save_is_compared_in_the_parents_columns_too() -> None:
    on_save(Record, fields=["name"])(lambda record: record.tasks.build("fields.changed"))
    child = ChildRecord.objects.create(name="a", note="n")
    child.note = "m"
    child.save()
    assert fired() == 0
    child.name = "b"
    child.save()
    assert fired() == 1


def test_a_record_deleted_meanwhile_is_created_anew_and_has_not_changed(account: Account) -> None:
    watch("name")
    stale = Account.objects.get()
    account.delete()
    stale.name = "b"
    stale.save()
    assert fired() == 0


@pytest.mark.parametrize("fields", [["nam"], ["posting"], [], "name", ["pk"]])
def test_fields_that_are_not_stored_are_refused_when_the_rule_is_declared(fields: Any) -> None:
    with pytest.raises(InvalidHandler, match="on_save"):
        on_save(Account, fields=fields)(lambda account: None)


def test_a_model_whose_rule_was_refused_has_no_receiver() -> None:
    from django.db.models.signals import post_save

    with pytest.raises(InvalidHandler):
        on_save(Bystander, fields=["nam"])
    assert not post_save.has_listeners(Bystander)


@races
def test_two_who_save_the_same_change_at_once_fire_once() -> None:
    watch("name")
    Account.objects.create(name="a")
    mine, theirs = Account.objects.get(), Account.objects.get()
    mine.name = theirs.name = "b"
    with threads(1) as run:
        with transaction.atomic():
            mine.save()
            second = run(theirs.save)
            wait_until_blocked()
        second.result(10)
    assert fired() == 1
    assert connection.in_atomic_block is False
