"""pgqueuer: started with its own `pgq run`; durable tables and batches of 10 are its defaults."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from benchmarks.peers import adapter

CHUNK = 5_000


@asynccontextmanager
async def worker() -> AsyncIterator[PgQueuer]:
    connection = await asyncpg.connect()
    queue = PgQueuer(AsyncpgDriver(connection))

    @queue.entrypoint("bench.noop")
    async def noop(job: Job) -> None:
        pass

    @queue.entrypoint("bench.ping")
    async def ping(job: Job) -> None:
        adapter.send_ping()

    yield queue
    await connection.close()


def install() -> None:
    subprocess.run([Path(sys.executable).parent / "pgq", "install"], check=True)


def enqueue(count: int) -> None:
    asyncio.run(_enqueue(count))


async def _enqueue(count: int) -> None:
    connection = await asyncpg.connect()
    queries = Queries(AsyncpgDriver(connection))
    payload = json.dumps(adapter.DATA).encode()
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        await queries.enqueue(["bench.noop"] * size, [payload] * size, [0] * size)
    await connection.close()


def ping(count: int) -> None:
    with asyncio.Runner() as runner:
        connection = runner.run(_connect())
        queries = Queries(AsyncpgDriver(connection))
        adapter.measure_pings(count, lambda: runner.run(_commit_one(connection, queries)))
        runner.run(_close(connection))


def _connect() -> Coroutine[Any, Any, asyncpg.Connection]:
    return asyncpg.connect()  # type: ignore[no-any-return]


async def _close(connection: asyncpg.Connection) -> None:
    await connection.close()


async def _commit_one(connection: asyncpg.Connection, queries: Queries) -> int:
    async with connection.transaction():
        await queries.enqueue("bench.ping", json.dumps(adapter.DATA).encode(), 0)
        committing = time.monotonic_ns()
    return committing


if __name__ == "__main__":
    adapter.main(install=install, enqueue=enqueue, ping=ping)
