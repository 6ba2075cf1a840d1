"""Server time of every page at ten thousand and at ten million tasks, in one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from urllib.parse import quote

from benchmarks.big_tables.fill import fill, tidy
from benchmarks.registry import ROOT
from benchmarks.server import Server

FEW = 10_000
MANY = 10_000_000
#: Each page so often in each turn; between turns the tables change places.
ROUNDS = 5

Times = dict[str, list[float]]


def big(server: Server, *, rounds: int, rows: int | None = None) -> dict[str, Times]:
    """Milliseconds of each page, by the number of tasks around what it shows."""
    sizes = (FEW, rows or MANY)
    for size in sizes:
        _prepare(server, size)
    found: dict[str, Times] = {str(size): {} for size in sizes}
    for turn in range(rounds):
        for size in sizes if turn % 2 else sizes[::-1]:
            times = json.loads(_run(server, size, "benchmarks.big_tables.pages", str(ROUNDS)))
            for page, took in times.items():
                found[str(size)].setdefault(page, []).extend(took)
            print(f"big {turn + 1}/{rounds}, {size:,} tasks", flush=True)
    return found


def _prepare(server: Server, size: int) -> None:
    database = _name(size)
    server.create(database)
    _run(server, size, "django", "migrate", "--verbosity=0")
    print(f"big: filling {size:,} tasks", flush=True)
    with server.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SET maintenance_work_mem = '256MB'")
        fill(cursor, size)
        tidy(cursor)
        cursor.execute("CHECKPOINT")


def _name(size: int) -> str:
    return f"big {size}"


def _run(server: Server, size: int, module: str, *arguments: str) -> str:
    """What a module of this project's own environment prints, on that database."""
    variables = server.variables(_name(size))
    address = f"postgres://{variables['PGUSER']}@/{quote(_name(size))}?host={variables['PGHOST']}"
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "DATABASE_URL": address, "DJANGO_SETTINGS_MODULE": "config.settings"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module}: {done.stderr[-3000:]}")
    return done.stdout
