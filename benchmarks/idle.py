"""What one worker process with nothing to do asks of the database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from benchmarks.fleet import Fleet, installed
from benchmarks.registry import Peer
from benchmarks.server import Server

START_SECONDS = 10.0
IDLE_SECONDS = 30.0


def idle(server: Server, peers: Sequence[Peer]) -> dict[str, float]:
    """Statements a second of each peer's idle worker, counted in the server's log.

    All peers idle at the same time, each on its own database; BEGIN and COMMIT count.
    """
    with ExitStack() as stack:
        fleets = {}
        for peer in peers:
            database = stack.enter_context(installed(server, peer, suffix=" idle"))
            server.log_statements(database)
            fleets[database] = stack.enter_context(Fleet(server, database, peer, processes=1))
        time.sleep(START_SECONDS)
        before = {database: server.statements(database) for database in fleets}
        time.sleep(IDLE_SECONDS)
        for fleet in fleets.values():
            fleet.check()
        rates = {
            peer.name: (server.statements(database) - before[database]) / IDLE_SECONDS
            for peer, database in zip(peers, fleets, strict=True)
        }
    for name, rate in rates.items():
        print(f"idle {name}: {rate:.2f} statements/s", flush=True)
    return rates
