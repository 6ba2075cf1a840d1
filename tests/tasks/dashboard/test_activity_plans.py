"""On PostgreSQL: indexes answer what the activity page asks, however many events there are."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tasks.models import BulkAction, TaskEvent
from tests.services.host import Host
from tests.tasks.admin_rows import LIST, failed
from tests.workers.tools import explained, statements

ACTIVITY = f"{LIST}activity/"
BIG = {"tasks_task", "tasks_taskevent"}


@pytest.fixture
def client(postgres_host: Host) -> Client:
    boss = User.objects.create_superuser("boss")
    client = Client()
    client.force_login(boss)
    return client


def fill() -> BulkAction:
    """100,000 events of bulk actions, some of people, on many tasks."""
    begun = BulkAction.objects.create(action="retry", who="ann", expected=50_000)
    other = BulkAction.objects.create(action="retry", who="bob", expected=50_000)
    task = failed()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO tasks_task (
                type, action, data, state, due, queue, priority, run_at, attempts, max_attempts,
                lease, created_at, finished_at, reason, fingerprint, has_dependents,
                idempotency_key, context)
            SELECT 'work', 'noop', '{}', 'completed', FALSE, 'stock', 0, now(), 1, 5, 5, now(),
                now(), '', '', FALSE, gen_random_uuid(), '{}'
            FROM generate_series(1, 50000)
            """
        )
        cursor.execute(
            """
            INSERT INTO tasks_taskevent (task_id, bulk_id, queue, at, who, action, reason)
            SELECT id, CASE WHEN id %% 2 = 0 THEN %s ELSE %s END, '', now(), 'ann', 'retry', ''
            FROM tasks_task CROSS JOIN generate_series(1, 2)
            """,
            [begun.pk, other.pk],
        )
        cursor.execute("ANALYZE")
    for number in range(300):
        who = "rare" if number == 3 else "ann"
        TaskEvent.objects.create(task=task, who=who, action="retry")
    return begun


def scans(client: Client, address: str) -> list[dict[str, Any]]:
    """Nodes of the plans of all statements of the page that touch a big table."""
    with statements() as seen:
        assert client.get(address).status_code == 200
    assert any("tasks_taskevent" in sql for sql, _params in seen)
    asked = [(sql, params) for sql, params in seen if sql.startswith("SELECT")]
    return [node for sql, params in asked for node in explained(sql, params)]


@pytest.mark.timeout(180)
def test_no_table_of_tasks_or_events_is_read_through_sorted_or_counted(client: Client) -> None:
    begun = fill()
    for query in (
        "",
        f"?before={TaskEvent.objects.latest('pk').pk - 60}",
        f"?after={TaskEvent.objects.latest('pk').pk - 60}",
        "?who=rare",
        "?queue=stock",
        f"?bulk={begun.pk}",
        f"?bulk={begun.pk}&queue=stock",
    ):
        for node in scans(client, ACTIVITY + query):
            read_through = node["Node Type"] == "Seq Scan" and node.get("Relation Name") in BIG
            assert not read_through, (query, node)
            much = node["Node Type"] in ("Sort", "Aggregate") and node["Plan Rows"] > 1000
            assert not much, (query, node)

    for node in scans(client, f"{LIST}bulk/{begun.pk}/"):
        assert not (node["Node Type"] == "Seq Scan" and node.get("Relation Name") in BIG), node
