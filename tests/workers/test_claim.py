from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.utils import timezone

from tasks import build, enqueue, enqueue_many
from tasks.models import Queue, State, Task
from tests.tasks.tools import threads
from tests.workers.tools import ME, OTHER, row_locked, statements
from workers.claim import claim

pytestmark = pytest.mark.django_db


def ids(tasks: list[Task]) -> list[int]:
    return [task.pk for task in tasks]


def test_a_claimed_task_runs_under_the_worker_with_a_raised_lease_and_attempt() -> None:
    task = enqueue("work.noop", {"a": 1})
    Task.objects.update(started_at=timezone.now(), progress_value={"done": 1, "total": None})
    (mine,) = claim("default", "default", 10, ME)
    task.refresh_from_db()
    for row in (mine, task):
        assert (row.state, row.due, row.worker_id) == (State.RUNNING, False, ME)
        assert (row.lease, row.attempts) == (1, 1)
        assert (row.started_at, row.progress_value) == (None, None)


def test_a_claimed_task_has_what_the_row_has() -> None:
    task = enqueue("work.noop", {"a": [1, None]}, timeout=1.5, max_attempts=3, priority=2)
    (mine,) = claim("default", "default", 10, ME)
    task.refresh_from_db()
    for field in Task._meta.concrete_fields:
        assert getattr(mine, field.attname) == getattr(task, field.attname), field.name
    assert mine._state.db == "default"
    assert not mine._state.adding
    assert mine == task


def test_the_lease_only_grows() -> None:
    enqueue("work.noop")
    for lease in (1, 2, 3):
        (mine,) = claim("default", "default", 1, ME)
        assert (mine.lease, mine.attempts) == (lease, lease)
        Task.objects.update(state=State.SCHEDULED, due=True, worker_id=None)


def test_priority_comes_first_then_run_at_then_id() -> None:
    now = timezone.now()
    low = enqueue("work.noop", priority=-1, run_at=now - timedelta(days=9))
    young = enqueue("work.noop", run_at=now - timedelta(seconds=1))
    old = enqueue("work.noop", run_at=now - timedelta(hours=1))
    half = enqueue("work.noop", run_at=(now - timedelta(hours=1)).replace(microsecond=500_000))
    same = enqueue("work.noop", run_at=old.run_at)
    high = enqueue("work.noop", priority=5)
    middle = sorted([old, half, same], key=lambda task: (task.run_at, task.pk))
    expected = ids([high, *middle, young, low])
    assert ids(claim("default", "default", 2, ME)) == expected[:2]
    assert ids(claim("default", "default", 99, ME)) == expected[2:]


def test_a_claim_takes_no_more_than_its_limit_and_no_other_queue() -> None:
    other = enqueue("work.noop", queue="other")
    for _ in range(5):
        enqueue("work.noop")
    assert len(claim("default", "default", 3, ME)) == 3
    assert len(claim("default", "default", 3, ME)) == 2
    assert claim("default", "default", 3, ME) == []
    assert ids(claim("default", "other", 3, ME)) == [other.pk]


def test_only_due_tasks_are_claimed() -> None:
    first = enqueue("work.noop", delay=60)
    enqueue("work.noop", after=[first])
    assert claim("default", "default", 9, ME) == []


def test_only_the_names_asked_for_and_none_of_the_excluded() -> None:
    one, two, three = (enqueue(name) for name in ("a.one", "a.two", "b.c.three"))
    assert ids(claim("default", "default", 9, ME, exclude=["a.one", "a.two"])) == [three.pk]
    assert ids(claim("default", "default", 9, ME, names=["a.two", "b.three"])) == [two.pk]
    assert claim("default", "default", 9, ME, names=["a.one"], exclude=["a.one"]) == []
    assert ids(claim("default", "default", 9, ME)) == [one.pk]


def test_a_name_with_signs_of_sql_in_it_is_only_a_name() -> None:
    task = enqueue("work.noop", queue="50%s 'off'")
    assert claim("default", "50%s 'off'", 9, ME, exclude=["100%.'s"]) == [task]


def test_a_paused_queue_gives_nothing_until_it_goes_on() -> None:
    task = enqueue("work.noop")
    queue = Queue.objects.create(name="default", paused_at=timezone.now())
    assert claim("default", "default", 9, ME) == []
    queue.paused_at = None
    queue.save()
    assert claim("default", "default", 9, ME) == [task]


def test_a_task_knows_whether_others_wait_for_it() -> None:
    first = enqueue("work.noop")
    enqueue("work.noop", after=[first])
    assert [task.has_dependents for task in claim("default", "default", 9, ME)] == [True]


def test_a_claim_is_one_statement_where_the_database_returns_what_it_updates() -> None:
    for _ in range(3):
        enqueue("work.noop")
    with statements() as first:
        claim("default", "default", 1, ME)
    with statements() as again:
        claim("default", "default", 2, ME)
    claims = [sql for sql, _ in again if "tasks_task" in sql]
    assert len(claims) == (2 if connection.vendor == "mysql" else 1)
    assert len([sql for sql, _ in first if "tasks_task" in sql]) == len(claims)


@pytest.mark.django_db(transaction=True)
def test_claims_of_two_connections_at_once_are_disjoint_and_complete() -> None:
    created = {enqueue("work.noop").pk for _ in range(120)}

    def all_i_get(worker: int) -> list[int]:
        mine: list[int] = []
        while tasks := claim("default", "default", 7, worker):
            mine += ids(tasks)
        return mine

    with threads(2) as start:
        futures = [start(all_i_get, worker) for worker in (ME, OTHER)]
        one, two = (future.result(30) for future in futures)
    assert len(one) + len(two) == len({*one, *two}) == 120
    assert {*one, *two} == created
    assert set(Task.objects.filter(worker_id=ME).values_list("pk", flat=True)) == set(one)
    assert set(Task.objects.values_list("lease", "attempts")) == {(1, 1)}


@pytest.mark.django_db(transaction=True)
def test_a_locked_row_is_skipped_and_not_waited_for() -> None:
    if not connection.features.has_select_for_update_skip_locked:
        assert connections["default"].vendor == "sqlite"  # One writer at a time: nothing to skip.
        return
    first, second = enqueue("work.noop"), enqueue("work.noop")
    with row_locked(first):
        assert claim("default", "default", 9, ME) == [second]
    assert claim("default", "default", 9, ME) == [first]


def test_what_is_claimed_can_be_saved_by_a_handler(django_assert_num_queries: Any) -> None:
    enqueue("work.noop", {"a": 1})
    (mine,) = claim("default", "default", 9, ME)
    with django_assert_num_queries(0):
        assert (mine.name, mine.data, mine.record, mine.idempotency_key.version) == (
            "work.noop", {"a": 1}, None, 4,
        )  # fmt: skip
    mine.refresh_from_db()
    assert mine.data == {"a": 1}


def test_mariadb_reads_the_head_of_its_index_and_sorts_nothing() -> None:
    if connection.vendor != "mysql":
        assert connection.vendor in ("postgresql", "sqlite")  # See test_plans.py for the first.
        return
    for queue in ("a", "b"):
        enqueue_many([build("work.noop", queue=queue, delay=n % 2) for n in range(600)])
    with statements() as seen:
        claim("default", "a", 5, ME)
    (sql, params) = next((sql, params) for sql, params in seen if "ORDER BY" in sql)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {sql}", params)
        names = [column[0] for column in cursor.description]
        plan = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    (tasks,) = (row for row in plan if row["table"] == "tasks_task")
    assert tasks["key"] == "tasks_claim"
    assert "filesort" not in tasks["Extra"]
