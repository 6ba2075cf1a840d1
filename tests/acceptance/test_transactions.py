"""Tasks exist with their record or not at all, whatever ends the transaction."""

import signal

import pytest
from django.db import transaction

from tasks.models import Task
from tests.acceptance.fleet import Fleet, counts, journal_of, until_done
from tests.services.host import Host
from tests.workload.models import Ticket


class Changed(Exception):
    """The host's code changed its mind."""


@pytest.mark.timeout(240)
def test_exactly_the_tasks_of_committed_records_exist_and_run(postgres_host: Host) -> None:
    journal = journal_of(postgres_host)
    Fleet(postgres_host, "--processes", 2).ready(2)

    for number in range(1000):
        try:
            with transaction.atomic():
                Ticket.objects.create(name=f"ticket {number}")
                if number % 3 == 0:
                    raise Changed
        except Changed:
            continue
    until_done()

    committed = {f"ticket {number}" for number in range(1000) if number % 3}
    assert set(Ticket.objects.values_list("name", flat=True)) == committed
    assert counts() == {"completed": 2 * len(committed)}
    results = Task.objects.values_list("result__record", flat=True)
    assert sorted(results) == sorted([*committed, *committed])
    assert {entry.note for entry in journal.entries("start")} == committed


@pytest.mark.timeout(180)
def test_under_autocommit_a_rule_that_raises_leaves_no_record(postgres_host: Host) -> None:
    with pytest.raises(ValueError, match="no such ticket"):
        Ticket.objects.create(name="refused")

    assert not Ticket.objects.exists()
    assert not Task.objects.exists()


@pytest.mark.timeout(180)
def test_a_process_killed_between_the_record_and_its_tasks_leaves_neither(
    postgres_host: Host,
) -> None:
    code = "from tests.workload.models import Ticket; Ticket.objects.create(name={!r})"

    killed = postgres_host.manage("shell", "--command", code.format("killed"), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not Ticket.objects.exists()
    assert not Task.objects.exists()

    postgres_host.shell(code.format("alive"))
    assert Ticket.objects.get().tasks.count() == 2
