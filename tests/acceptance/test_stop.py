"""Workers stop well: told to, interrupted from a terminal, or left alone."""

import os
import signal
import time

import psutil
import pytest

from tasks import enqueue_many
from tasks.enqueueing import build
from tasks.models import Task, Worker
from tests.acceptance.fleet import PATIENCE, Fleet, counts, journal_of
from tests.services.host import Host
from tests.services.waiting import wait_for
from tests.workload.journal import Journal


def assert_nothing_was_left_behind(journal: Journal) -> None:
    """What was started is completed; what was not started shows no attempt."""
    started = {entry.task for entry in journal.entries("start")}
    assert "running" not in counts()
    for task in Task.objects.all():
        expected = ("completed", 1, False) if task.pk in started else ("scheduled", 0, True)
        assert (task.state, task.attempts, task.due) == expected
    assert not Worker.objects.alive().exists()


def loaded_fleet(host: Host, *options: object) -> tuple[Journal, Fleet]:
    journal = journal_of(host)
    names = ("work.journal", "work.journal_atomic", "work.journal_async")
    sleeps = (0.0, 0.1, 0.3, 0.5)
    enqueue_many(
        [build(names[n % 3], {"sleep": sleeps[n % 4]}, max_attempts=1 + n % 5) for n in range(3000)]
    )
    fleet = Fleet(host, "--processes", 2, "--coroutines", 5, *options).ready(2)
    wait_for(lambda: len(journal.entries("end")) > 50, timeout=PATIENCE)
    return journal, fleet


@pytest.mark.timeout(240)
@pytest.mark.parametrize("ending", ["SIGTERM", "Ctrl-C"])
def test_a_fleet_told_to_stop_under_load_ends_what_runs_and_leaves_the_rest_untouched(
    postgres_host: Host, ending: str
) -> None:
    journal, fleet = loaded_fleet(postgres_host)

    told = time.monotonic()
    if ending == "SIGTERM":
        fleet.process.terminate()
    else:
        # A terminal sends it to every process of the group.
        os.killpg(fleet.process.pid, signal.SIGINT)
    assert fleet.end() == 0

    assert time.monotonic() - told < 25
    assert "Traceback" not in fleet.output
    assert counts()["scheduled"] > 0, "the test is to stop workers that have work left"
    assert_nothing_was_left_behind(journal)


@pytest.mark.timeout(240)
def test_a_handler_that_takes_longer_than_the_grace_is_given_back(postgres_host: Host) -> None:
    journal = journal_of(postgres_host)
    enqueue_many([build("work.gate", max_attempts=n) for n in (1, 2, 3)])
    enqueue_many([build("work.journal_async", {"sleep": 3600})])
    fleet = Fleet(postgres_host, "--grace", 0.5).ready()
    wait_for(lambda: len(journal.entries("start")) == 4, timeout=PATIENCE)

    assert fleet.terminate() == 0

    columns = Task.objects.values_list("state", "attempts", "due", "started_at", "worker_id")
    assert set(columns) == {("scheduled", 0, True, None, None)}
    assert not Worker.objects.alive().exists()


@pytest.mark.timeout(240)
def test_a_second_signal_ends_a_fleet_at_once(postgres_host: Host) -> None:
    journal = journal_of(postgres_host)
    enqueue_many([build("work.gate") for _ in range(6)])
    fleet = Fleet(postgres_host, "--processes", 2, "--grace", 1000).ready(2)
    wait_for(lambda: len(journal.entries("start")) == 6, timeout=PATIENCE)

    fleet.process.terminate()
    wait_for(lambda: fleet.output.count("1000 s grace") == 2, timeout=PATIENCE)
    assert fleet.terminate(timeout=20) == 0

    assert counts() == {"scheduled": 6}
    assert set(Task.objects.values_list("attempts", flat=True)) == {0}


@pytest.mark.timeout(240)
def test_workers_whose_supervisor_was_killed_stop_by_themselves(postgres_host: Host) -> None:
    journal, fleet = loaded_fleet(postgres_host)
    runners = fleet.runners()

    fleet.process.kill()
    gone, left = psutil.wait_procs(runners, timeout=PATIENCE)

    assert (len(gone), left) == (2, [])
    assert_nothing_was_left_behind(journal)


@pytest.mark.timeout(180)
def test_an_interrupt_while_workers_still_start_leaves_no_traceback(postgres_host: Host) -> None:
    fleet = Fleet(postgres_host, "--processes", 2)
    wait_for(fleet.pids, timeout=PATIENCE)

    os.killpg(fleet.process.pid, signal.SIGINT)

    assert fleet.end() == 0
    assert "Traceback" not in fleet.output
    assert not Worker.objects.alive().exists()
