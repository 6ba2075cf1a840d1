"""The floor: what the database alone allows. No handler, no contract, two statements a batch."""

from __future__ import annotations

import time

import psycopg
from psycopg.types.json import Jsonb

from benchmarks.peers import adapter

BATCH = 100
SCHEMA = """
    CREATE TABLE floor (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        state smallint NOT NULL DEFAULT 0,
        priority smallint NOT NULL DEFAULT 0,
        data jsonb NOT NULL,
        started_at timestamptz,
        finished_at timestamptz
    );
    CREATE INDEX floor_ready ON floor (priority DESC, id) WHERE state = 0;
"""
CLAIM = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM floor WHERE state = 0
        ORDER BY priority DESC, id LIMIT %s FOR UPDATE SKIP LOCKED
    )
    UPDATE floor SET state = 1, started_at = now() FROM picked
    WHERE floor.id = picked.id RETURNING floor.id, floor.data
"""
COMPLETE = "UPDATE floor SET state = 2, finished_at = now() WHERE id = ANY(%s) AND state = 1"


def install() -> None:
    with psycopg.connect() as connection:
        connection.execute(SCHEMA)


def enqueue(count: int) -> None:
    with psycopg.connect() as connection:
        connection.execute(
            "INSERT INTO floor (data) SELECT %s FROM generate_series(1, %s)",
            [Jsonb(adapter.DATA), count],
        )


def work() -> None:
    with psycopg.connect(autocommit=True) as connection:
        while True:
            rows = connection.execute(CLAIM, [BATCH]).fetchall()
            if rows:
                connection.execute(COMPLETE, [[row[0] for row in rows]])
            else:
                time.sleep(0.02)


if __name__ == "__main__":
    adapter.main(install=install, enqueue=enqueue, work=work)
