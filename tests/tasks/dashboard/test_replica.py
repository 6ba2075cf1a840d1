"""A host that reads from a replica: what staff decide is read and written on the primary."""

from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import Client

from tasks import enqueue
from tasks.dashboard.versions import versions
from tasks.models import BulkAction, Incident, State, Task, TaskEvent
from tests.tasks.admin_rows import LIST, button_of, in_state, staff
from tests.tasks.dashboard.test_incident_pages import failed, incident, press
from tests.tasks.tools import finish
from tests.workload.models import Record

pytestmark = pytest.mark.django_db(databases=["default", "other"])

RIGHTS = ("view_task", "retry_task", "cancel_task", "bulk_task", "manage_incident")


class ReadsElsewhere:
    """Reads tasks from a replica that lags behind by all that the test did after ``lag``."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "tasks" else None

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        return True


@pytest.fixture
def client() -> Client:
    return staff(*RIGHTS)


def lag(settings: Any) -> None:
    """The replica has what there is now, and reading is from there."""
    ContentType.objects.clear_cache()
    types = ContentType.objects.using("other")
    types.all().delete()
    types.bulk_create(ContentType.objects.using("default"))
    for model in (Record, Task, Incident, BulkAction, TaskEvent):
        rows = list(model._base_manager.using("default"))
        model._base_manager.using("other").bulk_create(rows)
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]


def test_decisions_about_an_incident_are_made_on_the_primary(client: Client, settings: Any) -> None:
    one = incident()
    lag(settings)
    press(client, Incident.objects.using("default").get(), "take")
    assert Incident.objects.using("default").get().taken_by == "ann"
    assert Incident.objects.using("other").get().taken_by == ""
    assert TaskEvent.objects.using("default").get().incident_id == one.pk
    assert not TaskEvent.objects.using("other").exists()


def test_one_is_tried_on_the_primary(client: Client, settings: Any) -> None:
    one = incident()
    older, newest = failed(one), failed(one)
    lag(settings)
    again = {"state": State.SCHEDULED, "due": True, "finished_at": None}
    Task.objects.using("default").filter(pk=newest.pk).update(**again)
    press(client, Incident.objects.using("default").get(), "try")
    assert Task.objects.using("default").get(pk=older.pk).state == State.SCHEDULED
    assert Task.objects.using("other").get(pk=older.pk).state == State.FAILED


@pytest.mark.parametrize(("name", "column"), [("pause", "paused_at"), ("cancel", "cancelled_at")])
def test_a_bulk_action_is_steered_on_the_primary(
    client: Client, settings: Any, name: str, column: str
) -> None:
    BulkAction.objects.create(action="retry", query="state:failed", task=enqueue("shop.own"))
    lag(settings)
    bulk = BulkAction.objects.using("default").get()
    client.post(f"{LIST}bulk/{bulk.pk}/{name}/")
    assert getattr(BulkAction.objects.using("default").get(), column) is not None
    assert getattr(BulkAction.objects.using("other").get(), column) is None


def test_all_of_a_record_are_retried_on_the_primary(client: Client, settings: Any) -> None:
    record = Record.objects.create(name="r")
    old = in_state("failed", record=record)
    lag(settings)
    settings.DATABASE_ROUTERS = []
    new = in_state("failed", record=record)
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]
    client.post(f"{LIST}record-retry/workload/record/{record.pk}/")
    states = Task.objects.using("default").filter(pk__in=[old.pk, new.pk])
    assert set(states.values_list("state", flat=True)) == {State.SCHEDULED}
    assert Task.objects.using("other").get().state == State.FAILED


def test_a_task_is_acted_on_as_the_primary_has_it(client: Client, settings: Any) -> None:
    lag(settings)
    settings.DATABASE_ROUTERS = []
    finish(enqueue("shop.do"), State.FAILED)
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]
    seen = Task.objects.using("default").get()
    client.post(button_of(seen, "retry"), {"version": versions([seen])[seen.pk]})
    assert Task.objects.using("default").get().state == State.SCHEDULED
    assert not Task.objects.using("other").exists()
