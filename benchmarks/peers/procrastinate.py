"""procrastinate: started with its own command and its defaults, one job at a time."""

from __future__ import annotations

from procrastinate import App, PsycopgConnector

from benchmarks.peers import adapter

CHUNK = 1_000

app = App(connector=PsycopgConnector())


@app.task(name="bench.noop")
async def noop(**data: object) -> None:
    pass


def install() -> None:
    with app.open():
        app.schema_manager.apply_schema()


def enqueue(count: int) -> None:
    with app.open():
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            noop.batch_defer(*([adapter.DATA] * size))


if __name__ == "__main__":
    adapter.main(install=install, enqueue=enqueue)
