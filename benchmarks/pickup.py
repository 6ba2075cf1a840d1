"""How long a single job waits on an idle worker: from just before COMMIT to the handler's start."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import median, quantiles

from benchmarks.drain import rotated
from benchmarks.fleet import Fleet, call, installed
from benchmarks.registry import Peer
from benchmarks.server import Server


def pickup(
    server: Server, peers: Sequence[Peer], *, rounds: int, jobs: int
) -> dict[str, dict[str, float]]:
    """Median and p99 in milliseconds over all rounds of `jobs` single jobs each, one worker."""
    delays: dict[str, list[int]] = {peer.name: [] for peer in peers}
    for turn in range(rounds):
        for peer in rotated(peers, turn):
            with (
                installed(server, peer) as database,
                Fleet(server, database, peer, processes=1) as fleet,
            ):
                found = json.loads(call(server, database, peer, "ping", str(jobs)))
                fleet.check()
            delays[peer.name] += found
            print(f"pickup {turn + 1}/{rounds} {peer.name}: {median(found) / 1e6:.2f} ms")
    return {name: _summary(found) for name, found in delays.items()}


def _summary(delays: list[int]) -> dict[str, float]:
    return {
        "median_ms": median(delays) / 1e6,
        "p99_ms": quantiles(delays, n=100)[98] / 1e6,
        "max_ms": max(delays) / 1e6,
        "jobs": len(delays),
    }
