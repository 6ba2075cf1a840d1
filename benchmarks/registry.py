"""Who takes part: everything the measures need to know of a peer, and nothing of its library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


@dataclass(frozen=True)
class Peer:
    """One contender.

    `command` starts a worker; its first word is a program of the peer's own environment.
    `unfinished` is true for a row of `table` whose job has not ended; a row that is gone has ended.
    """

    name: str
    environment: str
    adapter: str
    table: str
    unfinished: str
    command: tuple[str, ...]
    order: str = "id"
    jobs: int = 20_000
    table_jobs: int = 20_000
    processes_option: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def commands(self, processes: int) -> list[list[str]]:
        """The command lines that together run `processes` worker processes."""
        if self.processes_option:
            return [[*self.command, self.processes_option, str(processes)]]
        return [list(self.command) for _ in range(processes)]

    @property
    def requirements(self) -> Path:
        return HERE / "requirements" / f"{self.environment}.txt"


MANAGE = str(HERE / "host" / "manage.py")

AFTERSAVE = Peer(
    name="aftersave",
    environment="aftersave",
    adapter="benchmarks.peers.aftersave",
    table="tasks_task",
    unfinished="state <> 'completed'",
    command=("python", MANAGE, "runworker"),
    processes_option="--processes",
    variables={"BENCH_ENGINE": "aftersave"},
    note="defaults",
)
AFTERSAVE_DAPHNE = Peer(
    name="aftersave-daphne",
    environment="aftersave",
    adapter=AFTERSAVE.adapter,
    table=AFTERSAVE.table,
    unfinished=AFTERSAVE.unfinished,
    command=AFTERSAVE.command,
    processes_option=AFTERSAVE.processes_option,
    variables={"BENCH_ENGINE": "aftersave", "BENCH_DAPHNE": "1"},
    note="daphne in INSTALLED_APPS",
)
FLOOR = Peer(
    name="floor",
    environment="floor",
    adapter="benchmarks.peers.floor",
    table="floor",
    unfinished="state <> 2",
    command=("python", "-m", "benchmarks.peers.floor", "work"),
    note="bare psycopg: claim 100, complete 100, no handler",
)
PGQUEUER = Peer(
    name="pgqueuer",
    environment="pgqueuer",
    adapter="benchmarks.peers.pgqueuer",
    table="pgqueuer",
    unfinished="true",
    command=("pgq", "run", "--log-level", "INFO", "benchmarks.peers.pgqueuer:worker"),
    note="defaults: batch 10, asyncpg, uvloop",
)
PGQUEUER_100 = Peer(
    name="pgqueuer-100",
    environment="pgqueuer",
    adapter=PGQUEUER.adapter,
    table=PGQUEUER.table,
    unfinished=PGQUEUER.unfinished,
    command=(*PGQUEUER.command, "--batch-size", "100"),
    note="batch 100, asyncpg, uvloop",
)
PROCRASTINATE = Peer(
    name="procrastinate",
    environment="procrastinate",
    adapter="benchmarks.peers.procrastinate",
    table="procrastinate_jobs",
    unfinished="status <> 'succeeded'",
    command=("procrastinate", "--app", "benchmarks.peers.procrastinate.app", "worker"),
    jobs=2_000,
    table_jobs=1_000,
    note="defaults: one job at a time",
)
DJANGO_TASKS_DB = Peer(
    name="django-tasks-db",
    environment="django-tasks-db",
    adapter="benchmarks.peers.django_tasks_db",
    table="django_tasks_database_dbtaskresult",
    unfinished="status <> 'SUCCESSFUL'",
    command=("python", MANAGE, "db_worker", "--no-startup-delay"),
    order="enqueued_at",
    jobs=1_000,
    table_jobs=500,
    variables={"BENCH_ENGINE": "django_tasks_db"},
    note="defaults: one job at a time",
)

DRAIN: Sequence[Peer] = (
    FLOOR, AFTERSAVE, PGQUEUER, PGQUEUER_100, PROCRASTINATE, DJANGO_TASKS_DB,
)  # fmt: skip
PICKUP: Sequence[Peer] = (AFTERSAVE, PGQUEUER)
IDLE: Sequence[Peer] = (AFTERSAVE, PGQUEUER, PROCRASTINATE, DJANGO_TASKS_DB)
MEMORY: Sequence[Peer] = (AFTERSAVE, AFTERSAVE_DAPHNE, DJANGO_TASKS_DB)
LIVE: Sequence[Peer] = (AFTERSAVE,)
TABLES: Sequence[Peer] = (AFTERSAVE, PROCRASTINATE, DJANGO_TASKS_DB)
BIG: Sequence[Peer] = (AFTERSAVE,)
