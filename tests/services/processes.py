import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

PR_SET_PDEATHSIG = 1


class ServiceMissing(RuntimeError):
    """A program that a test needs is not installed on this machine."""


@contextlib.contextmanager
def needed() -> Iterator[None]:
    """Fail in CI, where every service must be there; elsewhere skip and say what was not shown."""
    try:
        yield
    except ServiceMissing as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


def program(*names: str, package: str) -> str:
    """The path of the first of these programs that is installed."""
    for name in names:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
        if path:
            return path
    raise ServiceMissing(f"{names[0]} is not here: install the Debian package {package}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def port_answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def die_with_parent() -> None:
    """Run in a child: a test session that is killed leaves no server behind (Linux only)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def start_server(
    arguments: Sequence[str | Path], *, log: Path, **options: Any
) -> subprocess.Popen[bytes]:
    """A server of the test session's own, out of the reach of Ctrl-C, its output in `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
            **options,
        )


def stop_server(
    process: subprocess.Popen[bytes], *, with_signal: int = signal.SIGTERM, timeout: float = 20
) -> None:
    """Ask the server to stop, wait for it, and kill it after `timeout` seconds."""
    if process.poll() is None:
        process.send_signal(with_signal)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout)


def kill_all(processes: Iterable[psutil.Process]) -> None:
    victims = list(processes)
    for process in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(victims, timeout=10)
