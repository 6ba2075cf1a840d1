"""Does a worker keep its speed on a table whose statistics are missing or old?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import LiteralString

import psycopg
from psycopg import sql

from benchmarks.drain import PROCESSES, drain_once, rotated
from benchmarks.fleet import Fleet, call, copied, installed
from benchmarks.memory import wait_until_empty
from benchmarks.registry import Peer
from benchmarks.server import Server

FRESH = "fresh"
NEVER = "never analysed"
OLD_FINISHED = "analysed when finished"
OLD_QUEUED = "analysed when queued"
KINDS = (FRESH, NEVER, OLD_FINISHED, OLD_QUEUED)

NEVER_ROWS = 200_000
OLD_ROWS = 1_000_000
ANALYSED_ROWS = 500
COLUMNS = """
    SELECT column_name, data_type, is_identity = 'YES' OR column_default LIKE 'nextval%%'
    FROM information_schema.columns WHERE table_name = %s AND table_schema = 'public'
    ORDER BY ordinal_position
"""


def tables(
    server: Server, peers: Sequence[Peer], *, rounds: int, jobs: int | None = None
) -> dict[str, dict[str, list[float]]]:
    """Jobs a second of each peer on each kind of table, one figure a round.

    "never analysed" holds 200,000 finished rows and was never seen by ANALYZE. The other two hold
    1,000,000 and were last analysed at 500, when all of these were finished, or all still queued.
    Autovacuum is off for the three.
    """
    rates: dict[str, dict[str, list[float]]] = {
        peer.name: {kind: [] for kind in KINDS} for peer in peers
    }
    for peer in peers:
        for kind in KINDS[1:]:
            _prepare(server, peer, kind)
    for turn in range(rounds):
        for peer in rotated(peers, turn):
            for kind in rotated(KINDS, turn):
                rate = _drain_on(server, peer, kind, jobs or peer.table_jobs)
                rates[peer.name][kind].append(rate)
                print(f"tables {turn + 1}/{rounds} {peer.name}, {kind}: {rate:,.0f} jobs/s")
    return rates


def _drain_on(server: Server, peer: Peer, kind: str, jobs: int) -> float:
    new = installed(server, peer) if kind == FRESH else None
    with new or copied(server, _template(peer, kind), f"{peer.name} {kind}") as database:
        with server.connect(database) as connection:
            connection.execute("CHECKPOINT")
        # The copy is hundreds of MB that the system still has to write: not a worker's affair.
        os.sync()
        # A copy starts with nothing in memory, a new table with all of it.
        drain_once(server, database, peer, jobs=max(50, jobs // 10))
        return drain_once(server, database, peer, jobs=jobs)


def _template(peer: Peer, kind: str) -> str:
    return f"{peer.name} on {kind}"


def _prepare(server: Server, peer: Peer, kind: str) -> None:
    """A template database with finished rows, copies of rows the peer itself wrote."""
    with installed(server, peer, suffix=" sample") as sample:
        with server.connect(sample) as connection:
            _on_table(connection, "ALTER TABLE {} SET (autovacuum_enabled = off)", peer)
            call(server, sample, peer, "enqueue", str(ANALYSED_ROWS))
            if kind == OLD_QUEUED:
                _on_table(connection, "ANALYZE {}", peer)
            with Fleet(server, sample, peer, processes=PROCESSES) as fleet:
                wait_until_empty(server, sample, peer, fleet)
            if kind == OLD_FINISHED:
                _on_table(connection, "ANALYZE {}", peer)
            _fill(connection, peer.table, NEVER_ROWS if kind == NEVER else OLD_ROWS)
            # Sets the hint bits once here, instead of in the first drain of every copy.
            _on_table(connection, "SELECT count(*) FROM {}", peer)
        server.create(_template(peer, kind), template=sample)


def _on_table(connection: psycopg.Connection, statement: LiteralString, peer: Peer) -> None:
    connection.execute(sql.SQL(statement).format(sql.Identifier(peer.table)))


def _fill(connection: psycopg.Connection, table: str, rows: int) -> None:
    """Copy the table's own rows until it holds `rows`; keys and UUIDs are new, the rest is kept."""
    columns = connection.execute(COLUMNS, [table]).fetchall()
    kept = [(name, kind) for name, kind, generated in columns if not generated]
    connection.execute(
        sql.SQL(
            "INSERT INTO {table} ({names}) SELECT {values} FROM {table},"
            " generate_series(1, %s / (SELECT count(*) FROM {table}))"
        ).format(
            table=sql.Identifier(table),
            names=sql.SQL(", ").join(sql.Identifier(name) for name, _ in kept),
            values=sql.SQL(", ").join(
                sql.SQL("gen_random_uuid()") if kind == "uuid" else sql.Identifier(name)
                for name, kind in kept
            ),
        ),
        [rows],
    )
