import sqlite3
from pathlib import Path


class SQLite:
    """Files in one directory, in the place of a server."""

    version = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, name: str) -> Path:
        return self.directory / f"{name}.sqlite3"

    def url(self, name: str) -> str:
        return f"sqlite:///{self.path(name)}"

    def create(self, name: str, *, template: str | None = None) -> None:
        target = sqlite3.connect(self.path(name))
        if template:
            source = sqlite3.connect(self.path(template))
            source.backup(target)
            source.close()
        target.close()

    def drop(self, name: str) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path(name).with_name(self.path(name).name + suffix).unlink(missing_ok=True)

    def stop(self) -> None:
        pass
