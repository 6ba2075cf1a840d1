"""The database server goes away in the middle of the work and comes back."""

import pytest

from tasks import enqueue_many
from tasks.enqueueing import build
from tasks.models import Task
from tests.acceptance.fleet import PATIENCE, Fleet, counts, journal_of, sure, until_done
from tests.services.host import Host
from tests.services.postgres import Postgres
from tests.services.waiting import wait_for


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_workers_go_on_by_themselves_and_repeat_nothing_when_the_server_restarts(
    postgres_server: Postgres, postgres_host: Host, mode: str
) -> None:
    journal = journal_of(postgres_host)
    postgres_host.configure(BACKOFF_BASE=0.2)
    enqueue_many(
        [build("work.journal", {"sleep": 0.02}) for _ in range(500)]
        + [build("work.journal_async", {"sleep": 0.02}) for _ in range(100)]
        + [build("work.gate") for _ in range(2)]
        + [build("work.effect", {"sleep": 0.02}, max_attempts=50) for _ in range(50)]
    )
    gates = list(Task.objects.named("work.gate"))
    fleet = Fleet(postgres_host, "--processes", 2).ready(2)
    workers = set(fleet.registered())

    for part in (0.2, 0.5):
        wait_for(lambda part=part: len(journal.entries("end")) > 600 * part, timeout=PATIENCE)
        postgres_server.stop(mode)
        # What ends while there is no database must not be forgotten.
        journal.open_gate(gates.pop())
        postgres_server.start()
        assert sure(Task.objects.count) == 652
    until_done(timeout=100)

    assert counts() == {"completed": 652}
    runs = journal.runs()
    assert len(runs) == 602
    assert [several for several in runs.values() if len(several) > 1] == []
    assert set(fleet.registered()) == workers
    assert fleet.terminate() == 0
