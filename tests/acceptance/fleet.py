"""What the tests of real worker processes share: fleets, and questions to a host's database."""

import json
from pathlib import Path
from typing import Any

import psutil
import psycopg
from django.db import connections
from django.db.utils import Error as DatabaseError

from tasks.models import Task, Worker
from tests.services.host import Host, Started
from tests.services.waiting import wait_for
from tests.workload.journal import VARIABLE, Journal

PATIENCE = 60


def journal_of(host: Host) -> Journal:
    """The journal of all handlers of this host's workers started from now on."""
    path = host.directory / "journal"
    host.env[VARIABLE] = str(path)
    return Journal(path)


class Fleet:
    """One `runworker` with its processes."""

    def __init__(self, host: Host, *options: object) -> None:
        self.host = host
        self.process: Started = host.popen("runworker", *options)

    @property
    def output(self) -> str:
        return self.process.output()

    def runners(self) -> list[psutil.Process]:
        """The processes that run tasks, not the supervisor."""
        return [p for p in self.process.descendants() if "workers" in words(p)]

    def pids(self) -> list[int]:
        return [runner.pid for runner in self.runners()]

    def ready(self, count: int = 1) -> "Fleet":
        """Wait until so many of its worker processes have registered."""
        wait_for(lambda: len(self.registered()) >= count, timeout=PATIENCE, what=f"{count} workers")
        return self

    def registered(self) -> list[int]:
        assert self.process.poll() is None, self.output
        return list(Worker.objects.alive().filter(pid__in=self.pids()).values_list("pk", flat=True))

    def end(self, *, timeout: float = PATIENCE) -> int:
        """The exit code of the supervisor, once it has ended."""
        return wait_for_end(self.process, timeout)

    def terminate(self, *, timeout: float = PATIENCE) -> int:
        self.process.terminate()
        return self.end(timeout=timeout)


def wait_for_end(process: Started, timeout: float = PATIENCE) -> int:
    what = f"the end of {process.args!r}"
    wait_for(lambda: process.poll() is not None, timeout=timeout, what=what)
    return process.returncode


def words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def until_done(tasks: Any = None, *, timeout: float = PATIENCE) -> None:
    """Wait until each of these tasks (all) is in a final state."""
    rows = (Task.objects.all() if tasks is None else tasks).live()
    try:
        wait_for(lambda: not sure(rows.exists), timeout=timeout, every=0.1)
    except AssertionError:
        left = list(rows.values_list("id", "type", "action", "state", "attempts", "due")[:10])
        raise AssertionError(f"after {timeout:g} s not finished ({counts()}): {left}") from None


def ids(tasks: Any) -> Any:
    """These tasks as they are now."""
    return Task.objects.filter(pk__in=[task.pk for task in tasks])


def sure(question: Any) -> Any:
    """The answer of the database, also when its server was away for a moment."""

    def asked() -> Any:
        try:
            return [question()]
        except DatabaseError:
            connections["default"].close()
            return None

    return wait_for(asked, timeout=PATIENCE, every=0.1, what="an answer of the database")[0]


def counts() -> dict[str, int]:
    """How many tasks are in which state."""
    states = list(Task.objects.values_list("state", flat=True))
    return {state: states.count(state) for state in sorted(set(states))}


def connect(host: Host) -> psycopg.Connection[Any]:
    """A connection of the test's own to the host's database on PostgreSQL."""
    directory = host.url.partition("host=")[2]
    return psycopg.connect(host=directory, user="postgres", dbname=host.name, autocommit=True)


def server_settled(host: Host) -> bool:
    """Whether the server has been up for so long that a free lock means a dead worker."""
    from workers.look import SERVER_SETTLES

    with connect(host) as connection:
        row = connection.execute(
            "SELECT now() - pg_postmaster_start_time() > make_interval(secs => %s)",
            [SERVER_SETTLES],
        ).fetchone()
    return bool(row and row[0])


def printed(host: Host, code: str) -> Any:
    """The JSON that this code prints last, run in a process of the host."""
    return json.loads(host.shell(f"import json\n{code}").splitlines()[-1])


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
