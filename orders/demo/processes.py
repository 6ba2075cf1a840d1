"""Processes the demo starts, watches and ends, each by its own id."""

import contextlib
import ctypes
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orders.demo.errors import DemoError, ProcessDied, TookTooLong

PR_SET_PDEATHSIG = 1
TAIL_LINES = 15


class Child:
    """A running process, its output in a log file, out of the reach of the terminal's Ctrl-C."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        ends_with_parent: bool = True,
        **options: Any,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent if ends_with_parent else None,
                env=env,
                **options,
            )

    def demand_alive(self) -> None:
        """Raises ProcessDied, with the end of its log, when the process is gone."""
        code = self.process.poll()
        if code is not None:
            raise ProcessDied(self.name, code, self.log, tail(self.log))

    def stop(self, *, with_signal: int = signal.SIGTERM, patience: float = 35.0) -> None:
        """Ask the process to end, wait ``patience`` seconds, then kill it."""
        stop_process(self.process, with_signal=with_signal, patience=patience)


def stop_process(
    process: "subprocess.Popen[Any]", *, with_signal: int = signal.SIGTERM, patience: float
) -> int:
    """End ``process``, by force after ``patience`` seconds; returns its exit code."""
    if process.poll() is None:
        process.send_signal(with_signal)
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def end_with_parent() -> None:
    """Run in a child: when the demo is killed its processes are told to end (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def tail(log: Path) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
    return ""


def wait_until(
    condition: Callable[[], bool],
    *,
    what: str,
    seconds: float,
    meanwhile: Callable[[], None] = lambda: None,
    every: float = 0.2,
) -> None:
    """Return when ``condition()`` is true; ``meanwhile`` may raise. Raises TookTooLong."""
    end = time.monotonic() + seconds
    while not condition():
        meanwhile()
        if time.monotonic() > end:
            raise TookTooLong(what, seconds)
        time.sleep(every)


def free_port(first: int | None = None) -> int:
    """A port of 127.0.0.1 that is free now: any, or ``first`` or one of the hundred after it."""
    wanted = [0] if first is None else range(first, first + 100)
    for port in wanted:
        with contextlib.suppress(OSError), socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])
    raise DemoError(f"No free port between {first} and {wanted[-1]}.")
