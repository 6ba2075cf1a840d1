"""Starts a demo: its folder, its database, and then itself again on that database."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from django.conf import settings

from orders.demo.folder import Folder
from orders.demo.postgres import Postgres
from orders.demo.processes import end_with_parent, stop_process

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 90.0
LOOK_EVERY = 1.0


def launch(*, check: bool, port: int) -> int:
    """Run a demo, or its check, to the end; returns the exit code. Raises DemoError.

    Settings are read from the environment when a process starts, so what needs the database runs
    in a second process.
    """
    end_on_signals()
    arguments = ["--check"] if check else [f"--port={port}"]
    with _folder(check=check) as folder, folder.locked(), _database(folder) as database:
        environment = _environment(folder, database.url)
        return _perform([*arguments, f"--folder={folder.path}"], environment, database)


def end_on_signals() -> None:
    """The first signal ends the demo in good order; more of them do not disturb that."""

    def end(number: int, frame: FrameType | None) -> None:
        for ending in ENDING:
            signal.signal(ending, signal.SIG_IGN)
        raise KeyboardInterrupt

    for ending in ENDING:
        # Under nohup the demo outlives its terminal.
        if (ending, signal.getsignal(ending)) != (signal.SIGHUP, signal.SIG_IGN):
            signal.signal(ending, end)


@contextlib.contextmanager
def _folder(*, check: bool) -> Iterator[Folder]:
    if not check:
        yield Folder.of_this_user()
        return
    folder = Folder.fresh()
    try:
        yield folder
    finally:
        folder.remove()


@contextlib.contextmanager
def _database(folder: Folder) -> "Iterator[GivenDatabase | Postgres]":
    """The database that was given, or else one that lives with the demo."""
    given = os.environ.get("DATABASE_URL")
    if given:
        yield GivenDatabase(given)
        return
    postgres = Postgres.of(folder)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.stop()


@dataclass
class GivenDatabase:
    """A database that others look after."""

    url: str

    def demand_alive(self) -> None:
        """Its own people watch it."""


def _environment(folder: Folder, url: str) -> dict[str, str]:
    """What was given wins, except that pages are only seen on this machine."""
    defaults = {
        "SECRET_KEY": folder.secret("SECRET_KEY"),
        "DEBUG": "0",
        # Four slashes: what follows the third is the folder, which begins with one.
        "EMAIL_URL": f"filemail:///{folder.mails}",
    }
    given = {name: value for name, value in os.environ.items() if value}
    return {
        **defaults,
        **given,
        "DATABASE_URL": url,
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
    }


def _perform(
    arguments: list[str], environment: dict[str, str], database: "GivenDatabase | Postgres"
) -> int:
    performance = subprocess.Popen(
        [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), "demo", *arguments],
        cwd=settings.BASE_DIR,
        env=environment,
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    try:
        while performance.poll() is None:
            database.demand_alive()
            with contextlib.suppress(subprocess.TimeoutExpired):
                performance.wait(LOOK_EVERY)
        return performance.returncode
    except KeyboardInterrupt:
        print("\nEnding the demo ...", flush=True)
        raise
    finally:
        stop_process(performance, patience=PATIENCE)
