"""The database server goes away in the middle of the work and comes back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks import enqueue_many
from tasks.enqueueing import build
from tasks.models import Task
from tests.acceptance.fleet import PATIENCE, Fleet, counts, journal_of, sure, until_done
from tests.services.host import Host
from tests.services.postgres import Postgres
from tests.services.waiting import wait_for


@contextmanager
def away(server: Postgres, mode: str = "fast") -> Iterator[None]:
    """Inside, the server is stopped."""
    server.stop(mode)
    try:
        yield
    finally:
        server.start()


@pytest.mark.timeout(360)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_workers_go_on_by_themselves_and_repeat_nothing_when_the_server_restarts(
    postgres_server: Postgres, postgres_host: Host, mode: str
) -> None:
    journal = journal_of(postgres_host)
    postgres_host.configure(BACKOFF_BASE=0.2)
    enqueue_many(
        [build("work.gate", priority=1) for _ in range(2)]
        + [build("work.journal", {"sleep": 0.02}) for _ in range(500)]
        + [build("work.journal_async", {"sleep": 0.02}) for _ in range(100)]
        + [build("work.effect", {"sleep": 0.02}, max_attempts=50) for _ in range(50)]
    )
    gates = list(Task.objects.named("work.gate"))
    fleet = Fleet(postgres_host, "--processes", 2).ready(2)
    wait_for(lambda: all(journal.started(gate) for gate in gates), timeout=PATIENCE)
    workers = set(fleet.registered())

    for part in (0.2, 0.5):
        wait_for(lambda part=part: len(journal.entries("end")) > 600 * part, timeout=PATIENCE)
        with away(postgres_server, mode):
            # What ends while there is no database must not be forgotten.
            gate = gates.pop()
            journal.open_gate(gate)
            wait_for(lambda gate=gate: journal.runs()[gate.pk][0].ended, timeout=PATIENCE)
        assert sure(Task.objects.count) == 652
    until_done(timeout=200)

    assert counts() == {"completed": 652}
    runs = journal.runs()
    assert len(runs) == 602
    assert [several for several in runs.values() if len(several) > 1] == []
    assert set(fleet.registered()) == workers
    assert fleet.terminate() == 0


@pytest.mark.timeout(300)
def test_a_fleet_told_to_stop_while_the_server_is_away_ends_and_others_do_the_work(
    postgres_server: Postgres, postgres_host: Host
) -> None:
    journal = journal_of(postgres_host)
    enqueue_many([build("work.journal", {"sleep": 0.05}) for _ in range(300)])
    fleet = Fleet(postgres_host, "--grace", 3).ready()
    wait_for(lambda: len(journal.entries("end")) > 50, timeout=PATIENCE)

    with away(postgres_server):
        assert fleet.terminate() == 0
        assert "Traceback" not in fleet.output
        late = Fleet(postgres_host)
        wait_for(lambda: "Trying again in" in late.output, timeout=PATIENCE)
    until_done(timeout=120)

    assert counts() == {"completed": 300}
    assert late.terminate() == 0
