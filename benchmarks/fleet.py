"""A peer's databases, adapter calls and worker processes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from benchmarks import venvs
from benchmarks.registry import ROOT, Peer
from benchmarks.server import Server

STOP_SECONDS = 30


def call(server: Server, database: str, peer: Peer, *arguments: str) -> str:
    """Run the peer's adapter in the peer's own environment; its standard output."""
    command = ["python", "-m", peer.adapter, *arguments]
    done = subprocess.run(
        _line(peer, command),
        env=_environment(server, database, peer),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{peer.name}: {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


@contextmanager
def installed(server: Server, peer: Peer, *, suffix: str = "") -> Iterator[str]:
    """A new database with the peer's tables, as its own installation leaves them."""
    template = f"template {peer.environment}"
    if not server.has(template):
        server.create(template)
        call(server, template, peer, "install")
    with copied(server, template, f"{peer.name}{suffix}") as database:
        yield database


@contextmanager
def copied(server: Server, template: str, database: str) -> Iterator[str]:
    server.create(database, template=template)
    try:
        yield database
    finally:
        server.drop(database)


class Fleet:
    """`processes` workers of a peer, started on entry and stopped with SIGTERM on exit."""

    def __init__(self, server: Server, database: str, peer: Peer, *, processes: int) -> None:
        self._environment = _environment(server, database, peer)
        self._lines = [_line(peer, command) for command in peer.commands(processes)]
        self._logs = [server.folder / f"{database}-{index}.log" for index in range(processes)]
        self._peer = peer
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for line, log in zip(self._lines, self._logs, strict=False):
            with log.open("wb") as out:
                self.processes.append(
                    subprocess.Popen(
                        line,
                        env=self._environment,
                        cwd=ROOT,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def check(self) -> None:
        """Raise with the end of the log when a worker is no longer running."""
        for process, log in zip(self.processes, self._logs, strict=False):
            if process.poll() is not None:
                raise RuntimeError(
                    f"{self._peer.name}: a worker ended with {process.returncode}:\n{_tail(log)}"
                )

    def logs(self) -> str:
        return "\n".join(_tail(log) for log in self._logs if log.exists())


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def _line(peer: Peer, command: list[str]) -> list[str]:
    return [str(venvs.binaries(peer) / command[0]), *command[1:]]


def _environment(server: Server, database: str, peer: Peer) -> dict[str, str]:
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("PG")},
        **server.variables(database),
        **peer.variables,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "benchmarks.host.settings",
        "BENCH_SOCKET": str(server.folder / "ping"),
    }
