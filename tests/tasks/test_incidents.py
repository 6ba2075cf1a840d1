import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import enqueue, incidents, signals
from tasks.models import Failure, Incident, IncidentHour, State, Task
from tasks.settle import settle, settle_by_hand
from tests.tasks.failing import complete, fail, failing, incident
from tests.tasks.tools import WORKER, ending, finish, start, threads

pytestmark = pytest.mark.django_db
Status = Incident.Status


@pytest.fixture
def opened() -> Iterator[Callable[[], list[tuple[str, bool]]]]:
    """Of which incidents was told so far, and whether again."""
    heard: list[tuple[str, bool]] = []

    def hear(*, incident: Incident, reopened: bool, **kwargs: Any) -> None:
        heard.append((incident.fingerprint, reopened))

    def told() -> list[tuple[str, bool]]:
        # The test's own transaction is never committed.
        while connection.run_on_commit:
            connection.run_on_commit.pop(0)[1]()
        return heard

    signals.incident_opened.connect(hear)
    yield told
    signals.incident_opened.disconnect(hear)


@pytest.mark.parametrize("linked", [False, True], ids=["plain", "linked"])
def test_tasks_that_fail_the_same_way_are_one_incident(linked: bool, settings: Any) -> None:
    settings.AFTERSAVE = {"RELEASE": "2026.11"}
    before = timezone.now()
    tasks = [start(enqueue("email.send.now")) for _ in range(3)]
    if linked:
        enqueue("email.after", after=tasks)
    endings = [failing(task, message=f"full\nat {task.pk}") for task in tasks]
    for one in endings:
        one.has_dependents = linked
    settle("default", WORKER, endings)
    found = Incident.objects.get()
    assert (found.name, found.exception) == ("email.send.now", "shop.MailboxFull")
    assert (found.type, found.action) == ("email", "send.now")
    assert (found.status, found.failures) == (Status.OPEN, 3)
    assert found.newest_task_id == tasks[-1].pk
    assert found.message == f"full at {tasks[-1].pk}"
    assert before <= found.first_seen_at == found.last_seen_at
    assert (found.first_release, found.reopened_release) == ("2026.11", "")
    assert IncidentHour.objects.get().failures == 3


def test_other_fingerprints_are_other_incidents_and_what_completes_is_none() -> None:
    fail(fingerprint="b")
    fail(fingerprint="a")
    fail(fingerprint="b")
    finish(enqueue("shop.do"))
    counts = dict(Incident.objects.values_list("fingerprint", "failures"))
    assert counts == {"a": 1, "b": 2}


def test_an_attempt_that_is_tried_again_is_no_incident() -> None:
    Failure.objects.create(task=enqueue("shop.do"), attempt=1, exception="x", fingerprint="f1")
    assert not Incident.objects.exists()


def test_whoever_lost_the_lease_counts_nothing() -> None:
    task = start(enqueue("shop.do"))
    outcome = failing(task)
    outcome.lease += 1
    assert settle("default", WORKER, [outcome]) == set()
    assert not Incident.objects.exists()


def test_healthy_tasks_ask_nothing_of_incidents() -> None:
    tasks = [start(enqueue("shop.do")) for _ in range(3)]
    with CaptureQueriesContext(connection) as seen:
        settle("default", WORKER, [ending(task) for task in tasks])
    assert not any("incident" in query["sql"] for query in seen)


def test_a_new_incident_is_told_once_and_the_next_failure_not(opened: Any) -> None:
    fail()
    fail()
    assert opened() == [("f1", False)]


def test_the_next_failure_reopens_what_was_resolved_and_names_the_release(
    opened: Any, settings: Any
) -> None:
    settings.AFTERSAVE = {"RELEASE": "1.0"}
    fail()
    one = incident()
    assert incidents.take(one, by="ann")
    assert incidents.resolve(one, by="ann", reason="fixed in 1.1")
    assert (one.status, one.resolved_at is not None) == (Status.RESOLVED, True)
    settings.AFTERSAVE = {"RELEASE": "1.1"}
    fail()
    one = incident()
    assert (one.status, one.resolved_at, one.taken_by) == (Status.OPEN, None, "")
    assert (one.first_release, one.reopened_release) == ("1.0", "1.1")
    assert one.reopened_at == one.last_seen_at
    assert opened() == [("f1", False), ("f1", True)]


def test_what_is_muted_stays_muted_until_its_time(opened: Any) -> None:
    fail()
    one = incident()
    assert incidents.mute(one, by="ann", until=timezone.now() + timedelta(hours=1))
    fail()
    one.refresh_from_db()
    assert (one.status, one.failures) == (Status.MUTED, 2)
    assert opened() == [("f1", False)]
    Incident.objects.update(muted_until=timezone.now() - timedelta(seconds=1))
    fail()
    one.refresh_from_db()
    assert (one.status, one.muted_until, one.failures) == (Status.OPEN, None, 3)
    assert opened() == [("f1", False), ("f1", True)]


def test_a_mute_that_ended_in_silence_makes_the_next_failure_news(opened: Any) -> None:
    fail()
    one = incident()
    incidents.mute(one, by="ann", until=timezone.now() + timedelta(hours=1))
    incidents.refresh("default", timezone.now() + timedelta(hours=2))
    one.refresh_from_db()
    assert one.status == Status.OPEN
    Incident.objects.update(muted_until=timezone.now() - timedelta(seconds=1))
    fail()
    assert opened()[-1] == ("f1", True)


def test_what_somebody_took_stays_theirs_when_it_fails_again(opened: Any) -> None:
    fail()
    incidents.take(incident(), by="ann")
    fail()
    assert (incident().status, incident().taken_by) == (Status.TAKEN, "ann")
    assert len(opened()) == 1


def resolved() -> bool:
    incidents.refresh("default")
    return bool(incident().status == Status.RESOLVED)


def test_it_is_over_when_the_last_failed_task_was_retried_and_completed() -> None:
    first, second = fail(), fail()
    assert not resolved()
    first.retry()
    complete(first)
    assert not resolved()
    second.retry()
    assert not resolved(), "it is due"
    start(second)
    assert not resolved(), "it runs"
    settle("default", WORKER, [ending(second)])
    assert resolved()
    assert incident().resolved_at is not None


@pytest.mark.parametrize("by_hand", [Task.complete, Task.delete])
def test_it_is_over_when_the_last_failed_task_is_done_by_hand_or_gone(by_hand: Any) -> None:
    by_hand(fail())
    assert resolved()


def test_a_task_that_fails_and_is_tried_again_by_itself_keeps_nothing_open() -> None:
    fail().complete()
    trying = enqueue("shop.do")
    Failure.objects.create(task=trying, attempt=1, exception="x", fingerprint="f1")
    assert resolved()


def test_a_task_that_fails_differently_after_its_retry_is_another_incident() -> None:
    task = fail()
    task.retry()
    fail(task, "f2")
    assert resolved()
    assert incident("f2").status == Status.OPEN


def test_muted_ones_are_not_resolved_before_their_time() -> None:
    task = fail()
    until = timezone.now() + timedelta(hours=1)
    incidents.mute(incident(), by="ann", until=until)
    task.complete()
    assert not resolved()
    incidents.refresh("default", until)
    assert incident().status == Status.RESOLVED


def test_one_more_failure_while_it_is_looked_at_keeps_it_open() -> None:
    fail().complete()
    seen = incident()
    fail()
    assert incidents._resolve("default", seen, timezone.now()) == 0
    assert incident().status == Status.OPEN


def moves(one: Incident) -> list[tuple[str, str]]:
    return list(one.events.values_list("who", "action"))


def test_each_decision_is_an_event_and_one_that_came_too_late_changes_nothing() -> None:
    fail()
    ann, bob = incident(), incident()
    assert incidents.take(ann, by="ann")
    assert not incidents.take(bob, by="bob")
    assert (bob.taken_by, bob.status) == ("ann", Status.TAKEN)
    assert incidents.release(bob, by="bob")
    assert not incidents.release(ann, by="ann")
    assert not incidents.unmute(ann, by="ann")
    assert incidents.mute(ann, by="ann", until=timezone.now() + timedelta(days=1), reason="known")
    assert incidents.unmute(ann, by="ann")
    assert incidents.resolve(ann, by="ann")
    assert not incidents.resolve(bob, by="bob")
    assert not incidents.mute(bob, by="bob", until=timezone.now() + timedelta(days=1))
    assert not incidents.take(bob, by="bob")
    assert moves(ann) == [
        ("ann", "incident_take"),
        ("bob", "incident_release"),
        ("ann", "incident_mute"),
        ("ann", "incident_unmute"),
        ("ann", "incident_resolve"),
    ]
    assert ann.events.get(action="incident_mute").reason == "known"


def test_a_note_keeps_text_and_a_link_to_somewhere_on_the_web() -> None:
    fail()
    one = incident()
    assert incidents.note(one, by="ann", text="the provider\0knows", link=" https://x.example/1 ")
    assert (one.note, one.link) == ("the provider\ufffdknows", "https://x.example/1")
    for bad in ("javascript:alert(1)", "//x.example", "https://x .example", "https://" + "x" * 500):
        with pytest.raises(ValueError, match="http"):
            incidents.note(one, by="ann", text="", link=bad)
    assert moves(one) == [("ann", "incident_note")]


def test_nobody_mutes_into_the_past() -> None:
    fail()
    with pytest.raises(ValueError, match="future"):
        incidents.mute(incident(), by="ann", until=timezone.now())


def test_one_is_tried_the_newest_and_what_came_of_it_is_known() -> None:
    old, new = fail(), fail()
    one = incident()
    assert incidents.trial(one) is None
    assert incidents.try_one(one, by="ann") == new
    tried = incidents.trial(one)
    assert tried is not None
    assert (tried.task, tried.state, tried.event.who) == (new, "due", "ann")
    assert (tried.is_over, tried.succeeded) == (False, False)
    complete(new)
    tried = incidents.trial(one)
    assert tried is not None
    assert (tried.is_over, tried.succeeded, tried.state) == (True, True, "completed")
    assert list(incidents.failed_tasks(one)) == [old]


def test_a_trial_that_fails_again_says_so() -> None:
    task = fail()
    incidents.try_one(incident(), by="ann")
    fail(task)
    tried = incidents.trial(incident())
    assert tried is not None
    assert (tried.is_over, tried.succeeded) == (True, False)
    assert incident().failures == 2


def test_a_trial_before_the_incident_was_reopened_is_no_news() -> None:
    task = fail()
    incidents.try_one(incident(), by="ann")
    complete(task)
    assert resolved()
    fail()
    assert incidents.trial(incident()) is None


def test_with_none_left_nothing_is_tried() -> None:
    fail().complete()
    assert incidents.try_one(incident(), by="ann") is None


def test_only_tasks_that_one_may_see_are_counted_and_tried() -> None:
    mine, _other = fail(), fail()
    among = Task.objects.filter(pk=mine.pk)
    assert list(incidents.failed_tasks(incident(), among)) == [mine]
    assert incidents.try_one(incident(), by="ann", among=among) == mine
    assert not incidents.failed_tasks(incident(), Task.objects.none()).exists()


def test_hours_are_for_spark_lines() -> None:
    fail()
    one = incident()
    hour = IncidentHour.objects.get().hour
    IncidentHour.objects.create(incident=one, hour=hour - timedelta(hours=3), failures=7)
    IncidentHour.objects.create(incident=one, hour=hour - timedelta(hours=30), failures=9)
    since, until = hour - timedelta(hours=4), hour + timedelta(minutes=1)
    assert incidents.hours("default", [one], since=since, until=until) == {one.pk: [0, 7, 0, 0, 1]}


def test_what_staff_end_by_hand_is_no_failure() -> None:
    task = enqueue("shop.do")
    settle_by_hand("default", [task.pk], State.CANCELLED, "no")
    assert not Incident.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_many_workers_that_fail_the_same_tasks_at_once_count_each_and_block_nobody() -> None:
    prints = [f"print-{n:02}" for n in range(12)]
    batches = [
        [failing(start(enqueue("shop.do")), fingerprint) for fingerprint in prints for _ in "12"]
        for _ in range(12)
    ]

    def work(seed: int, batch: list[Any]) -> None:
        random.Random(seed).shuffle(batch)
        for first in range(0, len(batch), 6):
            left = batch[first : first + 6]
            while left:
                written = settle("default", WORKER, left)
                left = [outcome for outcome in left if outcome.task_id not in written]

    with threads(6) as run:
        done = [run(work, seed, batch) for seed, batch in enumerate(batches)]
        for one in done:
            one.result(60)
    assert dict(Incident.objects.values_list("fingerprint", "failures")) == dict.fromkeys(
        prints, 24
    )
    hours: dict[str, int] = dict.fromkeys(prints, 0)
    for fingerprint, failures in IncidentHour.objects.values_list(
        "incident__fingerprint", "failures"
    ):
        hours[fingerprint] += failures
    assert set(hours.values()) == {24}
    assert Incident.objects.filter(status=Status.OPEN).count() == 12
