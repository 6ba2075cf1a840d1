"""One database server for a test session: `url()` names a database on it, `create()` makes one."""

from pathlib import Path
from typing import Protocol

from tests.services.mariadb import MariaDB
from tests.services.postgres import Postgres
from tests.services.sqlite import SQLite


class DatabaseServer(Protocol):
    version: str

    def url(self, name: str) -> str:
        """The DATABASE_URL of this database, which need not exist."""

    def create(self, name: str, *, template: str | None = None) -> None:
        """Make a database, empty or a copy of `template`, which nobody may be connected to."""

    def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""

    def stop(self) -> None:
        """End the server; its data may go."""


def start_database_server(kind: str, directory: Path) -> DatabaseServer:
    kinds = {"sqlite": SQLite, "postgres": Postgres, "mariadb": MariaDB}
    if kind not in kinds:
        raise ValueError(f"TEST_DB is {kind!r}, not one of {', '.join(kinds)}")
    return kinds[kind](directory)
