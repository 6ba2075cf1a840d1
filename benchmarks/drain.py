"""How fast two worker processes empty a full queue of no-op jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

import psycopg
from psycopg import sql

from benchmarks.fleet import Fleet, call, installed
from benchmarks.registry import Peer
from benchmarks.server import Server

Item = TypeVar("Item")


class Workers(Protocol):
    """Processes that may end though they should not."""

    def check(self) -> None: ...
    def logs(self) -> str: ...


PROCESSES = 2
START_SECONDS = 60
SETTLE_SECONDS = 1.0
POLL_SECONDS = 0.01
STALL_SECONDS = 120


def drain(
    server: Server, peers: Sequence[Peer], *, rounds: int, jobs: int | None = None
) -> dict[str, list[float]]:
    """Jobs a second of each peer, one figure a round; the peers take turns."""
    rates: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for turn in range(rounds):
        for peer in rotated(peers, turn):
            with installed(server, peer) as database:
                rate = drain_once(server, database, peer, jobs=jobs or peer.jobs)
            rates[peer.name].append(rate)
            print(f"drain {turn + 1}/{rounds} {peer.name}: {rate:,.0f} jobs/s", flush=True)
    return rates


def rotated(items: Sequence[Item], turn: int) -> list[Item]:
    """Each round begins with another one, so that none always follows the same neighbour."""
    start = turn % len(items)
    return [*items[start:], *items[:start]]


def drain_once(server: Server, database: str, peer: Peer, *, jobs: int) -> float:
    """Jobs a second, from the moment every worker may claim until every job has ended.

    A lock on the peer's table holds all workers at their first claim, so that neither the start
    of an interpreter nor a second worker that comes late is part of the figure.
    """
    call(server, database, peer, "enqueue", str(jobs))
    with server.connect(database) as watch:
        ids = _unfinished_ids(watch, peer)
        assert len(ids) == jobs, f"{peer.name}: {len(ids)} of {jobs} jobs are in {peer.table}"
        with Fleet(server, database, peer, processes=PROCESSES) as fleet:
            return rate_of(server, database, peer, watch, ids, fleet)


def rate_of(
    server: Server,
    database: str,
    peer: Peer,
    watch: psycopg.Connection,
    ids: Sequence[object],
    fleet: Workers,
    begun: Callable[[], object] = lambda: None,
) -> float:
    """How many of the jobs `ids`, oldest first, workers that were just started end a second.

    ``begun`` is called when they may claim."""
    with _held(server, database, peer, watch, fleet):
        pass
    begun()
    begin = time.perf_counter()
    end = _wait_until_ended(watch, peer, list(ids), fleet)
    return len(ids) / (end - begin)


def _unfinished_ids(watch: psycopg.Connection, peer: Peer) -> list[object]:
    query = f"SELECT id FROM {peer.table} WHERE {peer.unfinished} ORDER BY {peer.order}"
    return [row[0] for row in watch.execute(query)]


@contextmanager
def _held(
    server: Server, database: str, peer: Peer, watch: psycopg.Connection, fleet: Workers
) -> Iterator[None]:
    with server.connect(database) as gate, gate.transaction():
        gate.execute(sql.SQL("LOCK TABLE {} IN EXCLUSIVE MODE").format(sql.Identifier(peer.table)))
        deadline = time.monotonic() + START_SECONDS
        while _waiting(watch) < PROCESSES:
            fleet.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{peer.name}: the workers did not claim:\n{fleet.logs()}")
            time.sleep(0.05)
        time.sleep(SETTLE_SECONDS)
        yield


def _waiting(watch: psycopg.Connection) -> int:
    row = watch.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND backend_type = 'client backend'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def _wait_until_ended(
    watch: psycopg.Connection, peer: Peer, ids: list[object], fleet: Workers
) -> float:
    """When the last job ended. The watch looks at primary keys only: the last job of the queue,
    then the last two thousand, then all, so that looking costs the workers next to nothing."""
    end = time.perf_counter()
    query = f"SELECT count(*) FROM {peer.table} WHERE id = ANY(%s) AND {peer.unfinished}"
    for watched in (ids[-1:], ids[-2000:], ids):
        end = _wait_for(watch, query, watched, end, peer, fleet)
    return end


def _wait_for(
    watch: psycopg.Connection, query: str, ids: list[object], end: float, peer: Peer, fleet: Workers
) -> float:
    deadline = time.monotonic() + STALL_SECONDS
    waited = False
    while True:
        asked = time.perf_counter()
        left = watch.execute(query, [ids]).fetchone()
        if left == (0,):
            return asked if waited else end
        waited = True
        fleet.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"{peer.name}: {left} jobs have not ended:\n{fleet.logs()}")
        time.sleep(POLL_SECONDS)
