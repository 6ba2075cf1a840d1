"""Several processes on one SQLite file wait for each other without being told so."""

import threading

import pytest
from django.db import connections

from tasks import enqueue_many
from tasks.enqueueing import build
from tasks.models import Failure
from tests.acceptance.fleet import Fleet, counts, until_done
from tests.services.host import Host
from tests.workload.models import Effect, Ticket

TICKETS = 60


@pytest.mark.timeout(420)
def test_two_workers_and_writers_beside_them_never_hear_that_the_file_is_locked(
    sqlite_host: Host,
) -> None:
    names = ("work.effect", "work.atomic", "work.noop", "work.async")
    given = enqueue_many([build(names[n % 4], {"sleep": n % 3 / 100}) for n in range(400)])
    sqlite_host.env["JOURNAL"] = str(sqlite_host.directory / "journal")
    fleets = [Fleet(sqlite_host, "--threads", 4).ready() for _ in range(2)]
    code = (
        "from tests.workload.models import Ticket\n"
        f"for n in range({TICKETS}): Ticket.objects.create(name=n)"
    )
    beside = sqlite_host.popen("shell", "--command", code)
    errors: list[Exception] = []
    writers = [threading.Thread(target=write_tickets, args=(errors,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert beside.wait(180) == 0, beside.output()
    until_done(timeout=180)

    assert errors == []
    assert list(Failure.objects.values_list("message", flat=True)) == []
    assert counts() == {"completed": len(given) + 3 * TICKETS * 2}
    assert Effect.objects.count() == Effect.objects.values("key").distinct().count() == 200
    assert [fleet.terminate() for fleet in fleets] == [0, 0]
    for process in (*[fleet.process for fleet in fleets], beside):
        assert "locked" not in process.output()


def write_tickets(errors: list[Exception]) -> None:
    try:
        for number in range(TICKETS):
            Ticket.objects.create(name=str(number))
    except Exception as error:
        errors.append(error)
    finally:
        connections["default"].close()
