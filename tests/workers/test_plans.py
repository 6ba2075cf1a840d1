"""What PostgreSQL does to answer the engine's questions, with many other rows around."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tasks import figures, incidents
from tasks.models import Incident, State, Task
from tests.services.host import Host
from tests.services.postgres import Postgres
from tests.workers.tools import ME, OTHER, explained, statements, worker
from workers.claim import claim
from workers.look import look
from workers.rescue import make_due, release_orphans

#: Of each kind: a hundred thousand in all.
ROWS = 34_000
DEAD = 4713
_FILL = """
INSERT INTO tasks_task (type, action, data, state, due, queue, priority, run_at, attempts,
    max_attempts, lease, created_at, reason, fingerprint, has_dependents, idempotency_key, context,
    worker_id, finished_at)
SELECT 'work', 'noop', '{}', %(state)s, %(due)s, 'queue' || n %% 3, 0,
    now() + make_interval(secs => %(seconds)s + n / 1000.0), 0, 5, 0, now(), '',
    CASE WHEN %(state)s = 'failed' THEN 'print' || n %% 40 ELSE '' END, false,
    gen_random_uuid(), '{}',
    CASE WHEN %(state)s = 'running' THEN %(worker)s END,
    CASE WHEN %(state)s IN ('completed', 'failed') THEN now() END
FROM generate_series(1, %(rows)s) n
"""


def fill(
    state: str, rows: int, *, due: bool = False, seconds: int = 3600, worker: int = OTHER
) -> None:
    values = {"state": state, "rows": rows, "due": due, "seconds": seconds, "worker": worker}
    execute(_FILL, values)


def execute(statement: str, params: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def never_analysed() -> None:
    """The table has no statistics at all."""
    execute("SET allow_system_table_mods = on")
    execute("DELETE FROM pg_statistic WHERE starelid = 'tasks_task'::regclass")
    execute("UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = 'tasks_task'::regclass")


def nodes_of(ask: Callable[[], object]) -> list[dict[str, Any]]:
    """Plans of all that a question asks of the tasks; nothing is written."""
    with connection.execute_wrapper(_explain_only):
        _plans.clear()
        ask()
    assert _plans
    return list(_plans)


_plans: list[dict[str, Any]] = []


def _explain_only(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    if "tasks_task" in sql and not sql.startswith("EXPLAIN"):
        _plans.extend(explained(sql, params))
    return execute(sql, params, many, context)


def check_plans(situation: str) -> None:
    with statements() as seen:
        assert len(claim("default", "queue1", 5, ME)) == 5, situation
    assert seen
    plan = nodes_of(lambda: claim("default", "queue1", 100, ME))
    assert "tasks_claim" in indexes(plan), (situation, plan)
    assert not {"Sort", "Incremental Sort"} & kinds(plan), (situation, plan)
    assert_no_scan(plan, situation)
    looked = nodes_of(lambda: look("default", ME))
    assert {"tasks_claim", "tasks_later"} <= indexes(looked), (situation, looked)
    assert_no_scan(looked, situation)
    timed = nodes_of(lambda: make_due("default"))
    assert "tasks_later" in indexes(timed), (situation, timed)
    assert_no_scan(timed, situation)
    fill(State.RUNNING, 30, worker=DEAD)
    orphans = nodes_of(lambda: release_orphans("default"))
    assert_no_scan(orphans, situation)
    assert not Task.objects.filter(worker_id=DEAD).exists()


def indexes(plan: list[dict[str, Any]]) -> set[str]:
    return {node["Index Name"] for node in plan if "Index Name" in node}


def kinds(plan: list[dict[str, Any]]) -> set[str]:
    return {node["Node Type"] for node in plan}


def assert_no_scan(plan: list[dict[str, Any]], situation: str) -> None:
    """No way leads over the whole table: neither the heap, nor an index over all rows."""
    for node in plan:
        if node.get("Relation Name") != "tasks_task" and "Index Name" not in node:
            continue
        assert node["Node Type"] != "Seq Scan", (situation, node)
        whole = node.get("Index Name") == "tasks_task_pkey" and "Index Cond" not in node
        assert not whole, (situation, node)


@pytest.fixture(params=["postgres_server", "postgres16_server"])
def crowded(request: Any, make_host: Callable[..., Host]) -> None:
    server: Postgres = request.getfixturevalue(request.param)
    make_host(server)
    execute("ALTER TABLE tasks_task SET (autovacuum_enabled = false)")
    worker(ME)
    worker(OTHER)


@pytest.mark.usefixtures("crowded")
def test_no_question_of_the_engine_scans_or_sorts_whatever_the_statistics_say() -> None:
    fill(State.SCHEDULED, 3000, due=True, seconds=-3600)
    execute("ANALYZE tasks_task")
    execute("DELETE FROM tasks_task")
    fill(State.COMPLETED, ROWS)
    fill(State.RUNNING, ROWS)
    fill(State.SCHEDULED, ROWS)
    fill(State.SCHEDULED, 300, due=True, seconds=-3600)
    check_plans("analysed when everything was due")
    Task.objects.filter(state=State.SCHEDULED, due=True).update(due=False)
    execute("ANALYZE tasks_task")
    fill(State.SCHEDULED, 3000, due=True, seconds=-3600)
    check_plans("analysed when nothing was due")
    never_analysed()
    check_plans("never analysed")


@pytest.mark.usefixtures("crowded")
def test_no_question_of_figures_alerts_and_incidents_scans_or_sorts_tasks() -> None:
    for state in (State.COMPLETED, State.FAILED, State.SCHEDULED):
        fill(state, ROWS)
    fill(State.SCHEDULED, ROWS, due=True, seconds=-3600)
    Incident.objects.bulk_create(
        Incident(fingerprint=f"print{n}", type="work", action="noop", failures=1) for n in range(60)
    )
    for situation in ("never analysed", "analysed"):
        oldest = nodes_of(lambda: figures.oldest_due("default"))
        assert "tasks_claim" in indexes(oldest), (situation, oldest)
        assert_no_scan(oldest, situation)
        assert not {"Sort", "Incremental Sort"} & kinds(oldest), (situation, oldest)
        # Of twenty no task is failed.
        over = nodes_of(lambda: list(incidents.without_failed(Incident.objects.all())))
        assert "tasks_fingerprint" in indexes(over), (situation, over)
        assert_no_scan(over, situation)
        tried = nodes_of(lambda: incidents._is_tried(Incident.objects.all()[0]))
        assert_no_scan(tried, situation)
        newest = nodes_of(lambda: incidents.failed_tasks(Incident.objects.all()[0]).first())
        assert "tasks_fingerprint" in indexes(newest), (situation, newest)
        assert not {"Sort", "Incremental Sort"} & kinds(newest), (situation, newest)
        execute("ANALYZE")
    assert incidents.refresh("default") == 20


@pytest.mark.usefixtures("crowded")
def test_figures_of_a_week_are_read_by_their_index() -> None:
    execute(
        """
        INSERT INTO tasks_figure (start, span, process, queue, type, action, completed, failed,
            retried, cancelled, wait, run)
        SELECT date_trunc('hour', now()) - make_interval(hours => hour), 3600, 0, row.queue,
            row.type, row.action, 100, 1, 1, 1, '{"20": 50, "30": 50}', '{"20": 50, "30": 50}'
        FROM generate_series(1, 24 * 60) hour, (
            SELECT '' AS queue, '' AS type, '' AS action
            UNION ALL SELECT 'queue' || n, '', '' FROM generate_series(1, 5) n
            UNION ALL SELECT 'queue' || n % 5, 'shop', 'do' || n FROM generate_series(1, 40) n) row
        """
    )
    execute("ANALYZE tasks_figure")
    until = timezone.now()
    week = {"since": until - timedelta(days=7), "until": until, "step": 3600}
    questions: list[Callable[[], object]] = [
        lambda: figures.series("default", **week),
        lambda: figures.series("default", **week, names=["shop.do7"]),
        lambda: figures.by_queue("default", since=week["since"]),
        lambda: figures.by_name("default", since=week["since"]),
    ]
    for ask in questions:
        with statements() as seen:
            ask()
        [(sql, params)] = seen
        read = explained(sql, params)
        assert "Seq Scan" not in kinds(read), read
        assert "tasks_figure_once" in indexes(read)
