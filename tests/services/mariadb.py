import os
import subprocess
from pathlib import Path
from typing import Any

import pymysql

from tests.services.processes import program, start_server, stop_server
from tests.services.waiting import wait_for

# Nothing here outlives its server, so the disk need not be waited for.
SETTINGS = (
    "--skip-networking",
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--innodb-buffer-pool-size=128M",
    "--performance-schema=0",
    "--max-connections=200",
    "--character-set-server=utf8mb4",
    "--collation-server=utf8mb4_general_ci",
)


class MariaDB:
    """A MariaDB server of our own, on a Unix socket in `directory`, started for nobody else."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.socket = directory / "socket"
        self.user = ["--user=root"] if os.geteuid() == 0 else []
        self._install()
        self.process = self._start()
        self.version = self._query("SELECT VERSION()")

    def url(self, name: str) -> str:
        return f"mysql://root@/{name}?unix_socket={self.socket}"

    def create(self, name: str, *, template: str | None = None) -> None:
        self._query(f"CREATE DATABASE `{name}`")
        if template:
            dump = [*self._client("mariadb-dump"), template]
            copy = subprocess.run(dump, check=True, stdout=subprocess.PIPE)
            subprocess.run([*self._client("mariadb"), name], check=True, input=copy.stdout)

    def drop(self, name: str) -> None:
        self._query(f"DROP DATABASE IF EXISTS `{name}`")

    def stop(self) -> None:
        stop_server(self.process)

    def _install(self) -> None:
        installer = program("mariadb-install-db", package="mariadb-server")
        subprocess.run(
            [
                *(installer, "--no-defaults", f"--datadir={self.data}", *self.user),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ],
            check=True,
            capture_output=True,
        )

    def _start(self) -> subprocess.Popen[bytes]:
        paths = [f"--datadir={self.data}", f"--socket={self.socket}", "--pid-file=pid"]
        process = start_server(
            [
                program("mariadbd", package="mariadb-server"),
                *("--no-defaults", *self.user, *paths, *SETTINGS),
            ],
            log=self.directory / "log",
        )
        wait_for(lambda: self._answers(process), timeout=60, what="MariaDB")
        return process

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"MariaDB ended: {(self.directory / 'log').read_text()}")
        try:
            self._query("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def _client(self, name: str) -> list[str]:
        path = program(name, package="mariadb-client")
        return [path, "--no-defaults", f"--socket={self.socket}", "--user=root"]

    def _query(self, statement: str) -> Any:
        connection = pymysql.connect(unix_socket=str(self.socket), user="root")
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone()
        return row[0] if row else None
