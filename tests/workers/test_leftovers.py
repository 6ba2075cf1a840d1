from concurrent.futures import wait
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from tasks import enqueue
from tasks.models import Alert, BulkAction, Incident, IncidentHour, SearchKey, Task, TaskEvent
from tests.tasks.failing import fail, incident
from tests.tasks.tools import threads
from workers import leftovers
from workers.leftovers import prune

pytestmark = pytest.mark.django_db
NOW = timezone.now()
OLD = NOW - timedelta(days=401)


def test_what_is_older_than_the_figures_goes(settings: Any) -> None:
    settings.AFTERSAVE = {"KEEP_FIGURES": timedelta(days=10)}
    old = NOW - timedelta(days=11)
    fail(fingerprint="over").complete()
    IncidentHour.objects.update(hour=old)
    Incident.objects.update(status=Incident.Status.RESOLVED, last_seen_at=old)
    TaskEvent.objects.all().delete()
    TaskEvent.objects.create(queue="crm", action="pause", at=old)
    BulkAction.objects.create(action="retry", finished_at=old)
    Alert.objects.create(cause="old", at=old)
    prune("default", NOW)
    for model in (IncidentHour, Incident, TaskEvent, BulkAction, Alert):
        assert not model._default_manager.exists(), model


def test_what_is_young_or_still_needed_stays() -> None:
    fail(fingerprint="still-failed")
    Incident.objects.update(status=Incident.Status.RESOLVED, last_seen_at=OLD)
    task = enqueue("shop.do")
    events = [
        TaskEvent.objects.create(task=task, action="retry", at=OLD),
        TaskEvent.objects.create(incident=incident("still-failed"), action="note", at=OLD),
        TaskEvent.objects.create(queue="crm", action="pause", at=NOW),
        TaskEvent.objects.create(
            task=task, action="retry", bulk=BulkAction.objects.create(finished_at=OLD), at=OLD
        ),
    ]
    running = BulkAction.objects.create(created_at=OLD)
    Alert.objects.create(cause="young", at=NOW)
    assert prune("default", NOW) == 0
    assert TaskEvent.objects.count() == len(events)
    assert BulkAction.objects.filter(pk=running.pk).exists()


def test_nothing_goes_when_all_is_kept(settings: Any) -> None:
    settings.AFTERSAVE = {"KEEP_FIGURES": None}
    TaskEvent.objects.create(queue="crm", action="pause", at=OLD - timedelta(days=4000))
    assert prune("default", NOW) == 0


def test_it_goes_a_piece_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "AT_ONCE", 2)
    for number in range(3):
        Alert.objects.create(cause=str(number), at=OLD)
    assert prune("default", NOW) == 2
    assert prune("default", NOW) == 1


def test_what_staff_did_to_a_task_outlives_the_incident() -> None:
    task = fail(fingerprint="over")
    task.complete(by="ann")
    Incident.objects.update(status=Incident.Status.RESOLVED, last_seen_at=OLD)
    event = TaskEvent.objects.create(task=task, incident=incident("over"), action="retry", at=OLD)
    note = TaskEvent.objects.create(incident=incident("over"), action="incident_note", at=NOW)
    prune("default", NOW)
    assert not Incident.objects.exists()
    assert TaskEvent.objects.filter(pk=event.pk).exists()
    assert note.pk in TaskEvent.objects.values_list("pk", flat=True), "it is not old"
    TaskEvent.objects.update(at=OLD)
    prune("default", NOW)
    assert list(TaskEvent.objects.filter(task=None)) == []


@pytest.mark.django_db(transaction=True)
def test_an_incident_that_is_opened_again_in_this_moment_stays() -> None:
    fail(fingerprint="over").complete()
    Incident.objects.update(status=Incident.Status.RESOLVED, last_seen_at=OLD)
    with threads(1) as run:
        with transaction.atomic():
            Incident.objects.update(status=Incident.Status.OPEN)
            pruned = run(prune, "default", NOW)
            wait([pruned], timeout=1)
        pruned.result(20)
    assert incident("over").status == Incident.Status.OPEN


def test_search_keys_go_with_their_task() -> None:
    task = enqueue("shop.do")
    SearchKey.objects.create(task=task, key="customer.id", value="17")
    Task.objects.filter(pk=task.pk).delete()
    assert not SearchKey.objects.exists()
