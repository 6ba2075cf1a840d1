"""A host with two databases: tasks lie beside their records, each database has its own workers."""

from collections.abc import Callable

import pytest

from tasks.models import Worker
from tests.acceptance.fleet import Fleet, connect, journal_of, printed, until_done
from tests.services.host import Host
from tests.services.postgres import Postgres
from tests.services.waiting import wait_for
from tests.workload.models import Ticket

SHIFT = """
SET session_replication_role = replica;
UPDATE auth_permission SET content_type_id = content_type_id + 1000;
UPDATE django_content_type SET id = id + 1000;
"""
OTHERS = (
    "from tasks.models import Task\n"
    "rows = Task.objects.using('other').order_by('id')\n"
    "print(json.dumps(list(rows.values_list('state', 'result', 'content_type_id'))))"
)


@pytest.mark.timeout(240)
def test_each_fleet_runs_the_tasks_of_its_own_database(
    postgres_server: Postgres, make_host: Callable[..., Host]
) -> None:
    host, other = make_host(postgres_server), make_host(postgres_server)
    with connect(other) as connection:
        connection.execute(SHIFT)
    host.env["OTHER_DATABASE_URL"] = other.url
    journal = journal_of(host)
    here = Ticket.objects.create(name="here")
    host.shell(
        "from tests.workload.models import Ticket\n"
        "Ticket.objects.using('other').create(name='there')"
    )
    [before] = {content_type for _, _, content_type in printed(host, OTHERS)}
    assert before > 1000

    first = Fleet(host).ready()
    until_done()
    assert {entry.note for entry in journal.entries("start")} == {"here"}
    assert [state for state, _, _ in printed(host, OTHERS)] == ["scheduled", "waiting"]

    second = Fleet(host, "--database", "other")
    wait_for(lambda: {state for state, _, _ in printed(host, OTHERS)} == {"completed"}, timeout=120)
    results = [result for _, result, _ in printed(host, OTHERS)]
    assert results == [{"record": "there", "alias": "other"}] * 2
    mine = [task.result for task in here.tasks.all()]
    assert mine == [{"record": "here", "alias": "default"}] * 2
    assert Worker.objects.count() == 1
    assert first.terminate() == second.terminate() == 0
