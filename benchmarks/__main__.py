"""Measure, print the tables, and keep them in `benchmarks/results.json` and `results.md`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import registry, report, venvs
from benchmarks.big_tables.bench import big
from benchmarks.drain import drain
from benchmarks.idle import idle
from benchmarks.live import live
from benchmarks.memory import memory
from benchmarks.pickup import pickup
from benchmarks.registry import Peer
from benchmarks.server import Server
from benchmarks.tables import tables

PEERS: dict[str, Sequence[Peer]] = {
    "drain": registry.DRAIN,
    "pickup": registry.PICKUP,
    "idle": registry.IDLE,
    "memory": registry.MEMORY,
    "tables": registry.TABLES,
    "live": registry.LIVE,
    "big": registry.BIG,
}
ROUNDS = {"drain": 5, "pickup": 2, "tables": 5, "live": 5, "big": 3}
PINGS = 100


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    chosen = {
        name: _only(PEERS[name], options.only)
        for name in PEERS
        if name in (options.measures or PEERS)
    }
    chosen = {name: peers for name, peers in chosen.items() if peers}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    _warn_when_busy()
    everybody = [peer for peers in chosen.values() for peer in peers]
    venvs.ensure(everybody)
    results: report.Results = {"versions": report.versions(everybody)}
    with Server() as server:
        results["machine"] = server.facts()
        for name, peers in chosen.items():
            results[name] = _measure(name)(server, peers, options)
    print(f"\n{report.markdown(results)}")
    if options.only or options.jobs:
        print("A part only: benchmarks/results.* are as they were.")
    else:
        report.save(results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, help="rounds of drain, pickup, tables, live and big")
    parser.add_argument(
        "--jobs", type=int, help="jobs of each drain, for every peer; tasks in the table of big"
    )
    parser.add_argument("--only", default="", metavar="PEER,PEER", help="leave the others out")
    return parser


def _warn_when_busy() -> None:
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 4:
        print(f"Load is {load:.1f} on {cores} cores before the start: expect noise.", flush=True)


def _only(peers: Sequence[Peer], names: str) -> list[Peer]:
    return [peer for peer in peers if not names or peer.name in names.split(",")]


def _measure(name: str) -> Callable[[Server, Sequence[Peer], argparse.Namespace], Any]:
    return {
        "drain": _drain,
        "pickup": lambda server, peers, options: pickup(
            server, peers, rounds=options.rounds or ROUNDS["pickup"], jobs=PINGS
        ),
        "idle": lambda server, peers, options: idle(server, peers),
        "memory": lambda server, peers, options: memory(server, peers),
        "tables": lambda server, peers, options: tables(
            server, peers, rounds=options.rounds or ROUNDS["tables"], jobs=options.jobs
        ),
        "live": lambda server, peers, options: live(
            server, rounds=options.rounds or ROUNDS["live"], jobs=options.jobs
        ),
        "big": lambda server, peers, options: big(
            server, rounds=options.rounds or ROUNDS["big"], rows=options.jobs
        ),
    }[name]


def _drain(server: Server, peers: Sequence[Peer], options: argparse.Namespace) -> dict[str, Any]:
    rates = drain(server, peers, rounds=options.rounds or ROUNDS["drain"], jobs=options.jobs)
    return {
        peer.name: {"rates": rates[peer.name], "jobs": options.jobs or peer.jobs} for peer in peers
    }


if __name__ == "__main__":
    main()
