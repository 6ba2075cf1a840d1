from pathlib import Path

from tests.services.processes import (
    free_port,
    port_answers,
    program,
    start_server,
    stop_server,
)
from tests.services.waiting import wait_for


class Redis:
    """A Redis server of our own that keeps nothing on disk."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.directory = directory
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--bind", "127.0.0.1", "--port", self.port, "--save", "", "--appendonly", "no"]
        self.process = start_server(
            [program("redis-server", package="redis-server"), *map(str, options)],
            log=self.directory / "redis.log",
            cwd=self.directory,
        )
        wait_for(lambda: port_answers(self.port), timeout=20, what="Redis")

    def stop(self) -> None:
        stop_server(self.process)
