"""Pausing and resuming queues."""

import pytest
from django.db import transaction

from tasks import enqueue
from tasks.exceptions import QueueCannotBePaused, QueueUnchanged
from tasks.models import Queue, State, TaskEvent
from tasks.queues import pause, resume
from tasks.signals import staff_acted
from tests.tasks.tools import state_of, threads, wait_until_blocked
from workers.claim import claim

db = pytest.mark.django_db
races = pytest.mark.django_db(transaction=True)


@db
def test_of_a_paused_queue_nothing_is_claimed_until_it_is_resumed() -> None:
    task = enqueue("math.add", queue="crm")
    other = enqueue("math.add", queue="mail")
    pause("default", "crm", by="eve", reason="CRM is down")
    assert claim("default", "crm", 10, 4711) == []
    assert claim("default", "mail", 10, 4711) == [other]
    assert state_of(task) == State.SCHEDULED
    resume("default", "crm", by="eve")
    assert claim("default", "crm", 10, 4711) == [task]


@db
def test_the_row_says_who_paused_it_and_why_and_each_is_an_event() -> None:
    pause("default", "crm", by="eve", reason="down\x00")
    row = Queue.objects.get(pk="crm")
    assert (row.paused_by, row.paused_reason) == ("eve", "down\ufffd")
    assert row.paused_at is not None
    resume("default", "crm", by="adam", reason="up again")
    row.refresh_from_db()
    assert (row.paused_at, row.paused_by, row.paused_reason) == (None, "", "")
    assert list(TaskEvent.objects.values_list("queue", "action", "who", "reason", "task")) == [
        ("crm", "pause", "eve", "down\ufffd", None),
        ("crm", "resume", "adam", "up again", None),
    ]


@db
def test_a_queue_that_stands_is_not_paused_again_and_the_second_hears_who_was_first() -> None:
    pause("default", "crm", by="eve", reason="mine")
    with pytest.raises(QueueUnchanged, match="paused already .eve") as caught:
        pause("default", "crm", by="adam", reason="also mine")
    assert (caught.value.by, caught.value.paused) == ("eve", True)
    assert Queue.objects.get(pk="crm").paused_reason == "mine"
    assert TaskEvent.objects.count() == 1


@db
def test_a_queue_that_goes_on_is_not_resumed_again_and_the_second_hears_who_was_first() -> None:
    pause("default", "crm")
    resume("default", "crm", by="eve")
    with pytest.raises(QueueUnchanged, match="not paused already .eve") as caught:
        resume("default", "crm", by="adam")
    assert (caught.value.by, caught.value.paused) == ("eve", False)
    assert caught.value.at is not None
    assert TaskEvent.objects.count() == 2


@db
def test_a_queue_nobody_ever_paused_is_not_resumed_and_gets_no_row() -> None:
    with pytest.raises(QueueUnchanged) as caught:
        resume("default", "crm")
    assert (caught.value.by, caught.value.at) == ("", None)
    assert not Queue.objects.filter(pk="crm").exists()


@db
def test_aftersaves_own_queue_cannot_be_paused() -> None:
    with pytest.raises(QueueCannotBePaused, match="'aftersave'"):
        pause("default", "aftersave")
    assert not TaskEvent.objects.exists()


@db
def test_listeners_hear_of_it_after_the_commit(django_capture_on_commit_callbacks) -> None:
    heard: list[str] = []

    def listen(event: TaskEvent, **kwargs: object) -> None:
        heard.append(f"{event.action} {event.queue}")

    staff_acted.connect(listen)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            pause("default", "crm")
            assert heard == []
    finally:
        staff_acted.disconnect(listen)
    assert heard == ["pause crm"]


@races
@pytest.mark.parametrize("known", [True, False])
def test_of_two_people_who_pause_at_once_one_does(known: bool) -> None:
    if known:
        Queue.objects.create(name="crm")
    with threads(1) as run:
        with transaction.atomic():
            pause("default", "crm", by="adam")
            theirs = run(lambda: pause("default", "crm", by="eve"))
            wait_until_blocked()
        with pytest.raises(QueueUnchanged) as caught:
            theirs.result(30)
    assert caught.value.by == "adam"
    assert TaskEvent.objects.get().who == "adam"
