"""What PostgreSQL does to answer the engine's questions, with many other rows around."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from tasks.models import State, Task
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
    now() + make_interval(secs => %(seconds)s + n / 1000.0), 0, 5, 0, now(), '', '', false,
    gen_random_uuid(), '{}',
    CASE WHEN %(state)s = 'running' THEN %(worker)s END,
    CASE WHEN %(state)s = 'completed' THEN now() END
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
