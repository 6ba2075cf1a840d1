"""Memory of a worker process that has done some work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import mean

import psutil

from benchmarks.drain import PROCESSES
from benchmarks.fleet import Fleet, call, installed
from benchmarks.registry import Peer
from benchmarks.server import Server

JOBS = 500
WORK_SECONDS = 120
REST_SECONDS = 1.0


def memory(server: Server, peers: Sequence[Peer]) -> dict[str, dict[str, float]]:
    """MB of one worker process of two, after they did `JOBS` no-op jobs, and of a supervisor."""
    found = {}
    for peer in peers:
        with installed(server, peer) as database:
            found[peer.name] = _measure(server, database, peer)
        print(f"memory {peer.name}: {found[peer.name]['pss_mb']:.1f} MB (PSS)", flush=True)
    return found


def _measure(server: Server, database: str, peer: Peer) -> dict[str, float]:
    call(server, database, peer, "enqueue", str(JOBS))
    with Fleet(server, database, peer, processes=PROCESSES) as fleet:
        wait_until_empty(server, database, peer, fleet)
        time.sleep(REST_SECONDS)
        started = [psutil.Process(process.pid) for process in fleet.processes]
        workers = [worker for process in started for worker in _leaves(process)]
        supervisors = [process for process in started if process not in workers]
        sizes = [worker.memory_full_info() for worker in workers]
        return {
            "pss_mb": mean(size.pss for size in sizes) / 1e6,
            "rss_mb": mean(size.rss for size in sizes) / 1e6,
            "private_mb": mean(size.uss for size in sizes) / 1e6,
            "supervisor_pss_mb": sum(one.memory_full_info().pss for one in supervisors) / 1e6,
        }


def _leaves(process: psutil.Process) -> list[psutil.Process]:
    return process.children() or [process]


def wait_until_empty(server: Server, database: str, peer: Peer, fleet: Fleet) -> None:
    """Until no unfinished job is left in the peer's table."""
    query = f"SELECT EXISTS (SELECT 1 FROM {peer.table} WHERE {peer.unfinished})"
    deadline = time.monotonic() + WORK_SECONDS
    with server.connect(database) as watch:
        while watch.execute(query).fetchone() == (True,):
            fleet.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{peer.name}: jobs have not ended:\n{fleet.logs()}")
            time.sleep(0.1)
