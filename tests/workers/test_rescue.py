from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks import enqueue, figures, incidents, signals
from tasks.models import Failure, Incident, LogLine, Queue, State, Task, Worker
from tests.workers.tools import ME, OTHER, attempt, claimed, row_locked, statements, worker
from workers.look import Seen, due_queues, look
from workers.membership import Membership
from workers.outcomes import mark_started
from workers.rescue import (
    SECOND_LOOK,
    WORKER_LOST,
    Suspicion,
    declare_dead,
    make_due,
    release_orphans,
)

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def held(by: int, **options: Any) -> Task:
    return claimed(enqueue("work.noop", **options), by=by)


def reread(task: Task) -> Task:
    task.refresh_from_db()
    return task


def test_tasks_of_a_dead_worker_go_back_to_the_front_with_the_attempt_counted() -> None:
    worker(ME)
    worker(OTHER)
    mine, lost = held(ME), held(OTHER, priority=3)
    run_at = lost.run_at
    assert declare_dead("default", [OTHER]) == [OTHER]
    reread(lost)
    assert (lost.state, lost.due, lost.attempts, lost.lease) == (State.SCHEDULED, True, 1, 1)
    assert (lost.priority, lost.run_at, lost.worker_id) == (3, run_at, None)
    assert LogLine.objects.get(task=lost).text.startswith("The worker was lost")
    assert reread(mine).state == State.RUNNING
    assert Worker.objects.get(pk=OTHER).lost_at is not None
    assert declare_dead("default", [OTHER]) == []


def test_only_what_had_started_its_last_attempt_fails() -> None:
    started, waited = held(OTHER, max_attempts=1), held(OTHER, max_attempts=1)
    assert mark_started("default", OTHER, attempt(started))
    assert release_orphans("default") == 2
    reread(started)
    assert (started.state, started.reason) == (State.FAILED, WORKER_LOST)
    failure = started.failures.get()
    assert (failure.attempt, failure.worker_id) == (1, OTHER)
    assert len(failure.fingerprint) == 32
    assert failure.fingerprint == started.fingerprint
    reread(waited)
    assert (waited.state, waited.due, waited.attempts) == (State.SCHEDULED, True, 0)


def test_what_waits_for_a_task_that_died_goes_on_waiting() -> None:
    first = held(OTHER, max_attempts=1)
    second = enqueue("work.noop", after=[first])
    mark_started("default", OTHER, attempt(first))
    release_orphans("default")
    assert reread(second).state == State.WAITING


def test_tasks_of_workers_that_stopped_or_never_were_are_orphans_too() -> None:
    worker(OTHER, stopped_at=NOW)
    one, two = held(OTHER), held(99)
    assert release_orphans("default") == 2
    assert {reread(one).state, reread(two).state} == {State.SCHEDULED}
    assert release_orphans("default") == 0


@pytest.mark.django_db(transaction=True)
def test_an_orphan_locked_by_somebody_stays_for_the_next_look() -> None:
    one, two = held(OTHER), held(OTHER)
    if connection.features.has_select_for_update_skip_locked:
        with row_locked(one):
            assert release_orphans("default") == 1
    release_orphans("default")
    assert {reread(one).state, reread(two).state} == {State.SCHEDULED}


@pytest.mark.django_db(transaction=True)
def test_a_lost_worker_is_told_with_what_it_held() -> None:
    told: list[dict[str, Any]] = []

    def receive(**facts: Any) -> None:
        told.append(facts)

    signals.worker_lost.connect(receive)
    try:
        held(OTHER)
        held(OTHER)
        release_orphans("default")
    finally:
        signals.worker_lost.disconnect(receive)
    assert [(fact["worker_id"], fact["tasks"]) for fact in told] == [(OTHER, 2)]


def test_a_free_lock_counts_only_when_seen_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("workers.rescue.time.monotonic", lambda: now)
    suspicion = Suspicion()
    seen = Seen(alive=True, now=NOW, unlocked=[OTHER])
    assert suspicion.dead(seen) == []
    assert suspicion.pending
    now += SECOND_LOOK - 0.1
    assert suspicion.dead(seen) == []
    now += 0.2
    assert suspicion.dead(seen) == [OTHER]
    assert suspicion.dead(Seen(alive=True, now=NOW)) == []
    assert not suspicion.pending
    assert suspicion.dead(seen) == []


def test_a_silent_worker_is_dead_at_once_but_who_was_away_judges_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("workers.rescue.time.monotonic", lambda: now)
    suspicion = Suspicion()
    seen = Seen(alive=True, now=NOW, silent=[OTHER])
    assert suspicion.dead(seen) == [OTHER]
    suspicion.be_blind(15)
    assert suspicion.dead(seen) == []
    now += 15
    assert suspicion.dead(seen) == [OTHER]


def test_make_due_takes_what_has_come_and_only_that() -> None:
    soon, late = enqueue("work.noop", delay=60, queue="a"), enqueue("work.noop", delay=99)
    assert make_due("default") == set()
    Task.objects.filter(pk=soon.pk).update(run_at=timezone.now() - timedelta(seconds=1))
    assert make_due("default") == {"a"}
    assert reread(soon).due
    assert not reread(late).due
    assert make_due("default") == set()


def test_a_look_keeps_the_worker_alive_and_sees_what_is_due() -> None:
    worker(ME, beat=timedelta(seconds=20))
    before = Worker.objects.get().heartbeat_at
    for queue in ("b", "a", "b", "paused"):
        enqueue("work.noop", queue=queue)
    Queue.objects.create(name="paused", paused_at=NOW)
    later = enqueue("work.noop", queue="c", delay=60)
    enqueue("work.noop", queue="d", after=[later])
    enqueue("work.noop", delay=600)
    seen = look("default", ME)
    assert seen.alive
    assert sorted(seen.due_queues) == sorted(due_queues("default")) == ["a", "b"]
    assert seen.next_run_at is not None
    assert abs((seen.next_run_at - later.run_at).total_seconds()) < 0.001
    assert abs((seen.now - timezone.now()).total_seconds()) < 5
    assert (seen.silent, seen.unlocked, seen.orphaned) == ([], [], False)
    assert Worker.objects.get().heartbeat_at > before


def test_a_look_at_nothing_sees_nothing() -> None:
    worker(ME)
    seen = look("default", ME)
    assert (seen.due_queues, seen.next_run_at, seen.orphaned) == ([], None, False)


@pytest.mark.parametrize("column", ["stopped_at", "lost_at"])
def test_a_look_tells_a_worker_that_it_is_not_among_the_living(column: str) -> None:
    worker(ME, **{column: NOW})
    seen = look("default", ME)
    assert not seen.alive
    assert seen.now is not None


def test_a_look_sees_the_silent_and_the_orphaned() -> None:
    worker(ME)
    worker(OTHER, beat=timedelta(seconds=31))
    worker(99, beat=timedelta(seconds=25))
    Worker.objects.create(id=98, host="", pid=1, threads=1, coroutines=1, lost_at=NOW)
    held(OTHER)
    seen = look("default", ME)
    # PostgreSQL of a test session may have started less than 15 s ago.
    assert seen.silent in ([OTHER], []) if connection.vendor == "postgresql" else [[OTHER]]
    assert not seen.orphaned
    held(98)
    assert look("default", ME).orphaned


def test_a_short_heartbeat_limit_makes_the_heart_beat_faster(settings: Any) -> None:
    settings.AFTERSAVE = {"HEARTBEAT_LIMIT": 3}
    worker(ME, beat=timedelta(seconds=1))
    before = Worker.objects.get().heartbeat_at
    look("default", ME)
    assert Worker.objects.get().heartbeat_at > before


def test_an_idle_look_is_one_statement_where_the_database_can() -> None:
    worker(ME)
    with statements() as seen:
        look("default", ME)
    assert len(seen) == 1 or connection.vendor != "postgresql"


def test_a_worker_registers_under_a_fresh_id_and_says_when_it_leaves() -> None:
    member = Membership("default", ["a", "b"], 3, 7)
    first, second = member.register(), member.register()
    assert first != second
    assert 0 < first < 2**53
    row = Worker.objects.get(pk=second)
    assert (row.queues, row.threads, row.coroutines, row.holds_lock) == (["a", "b"], 3, 7, False)
    assert abs((row.heartbeat_at - timezone.now()).total_seconds()) < 5
    member.leave()
    assert Worker.objects.get(pk=second).stopped_at is not None
    assert Worker.objects.get(pk=first).stopped_at is None
    assert not Failure.objects.exists()


def test_tasks_that_died_with_their_worker_are_an_incident_and_are_counted() -> None:
    for _ in range(2):
        assert mark_started("default", OTHER, attempt(held(OTHER, max_attempts=1)))
    held(OTHER)
    release_orphans("default")
    incident = Incident.objects.get()
    assert (incident.name, incident.failures) == ("work.noop", 2)
    assert incident.exception == "workers.WorkerLost"
    assert incidents.failed_tasks(incident).count() == 2
    held(OTHER, priority=9)
    release_orphans("default")
    counts = figures.totals("default", since=timezone.now() - timedelta(minutes=5))
    assert counts == figures.Counts(failed=2, retried=2)
