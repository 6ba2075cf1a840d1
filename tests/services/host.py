"""A host project of its own for one test: a fresh migrated database and real processes on it."""

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from django.db import connections

from tests.services.databases import DatabaseServer
from tests.services.processes import free_port, kill_all, port_answers
from tests.services.waiting import wait_for

PROJECT = Path(__file__).resolve().parent.parent.parent
MARK = "AFTERSAVE_TEST_HOST"


class Started(subprocess.Popen[bytes]):
    """A process of a host; what it prints goes to the file `log`."""

    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


class Host:
    """`env` is what its processes are started with: change it before starting them."""

    def __init__(self, server: DatabaseServer, directory: Path, *, name: str = "") -> None:
        self.server = server
        self.directory = directory
        self.name = name or f"host_{uuid.uuid4().hex[:12]}"
        self.url = server.url(self.name)
        self.mark = uuid.uuid4().hex
        self.started: list[Started] = []
        self.env = {
            **{key: value for key, value in os.environ.items() if key != "OTHER_DATABASE_URL"},
            "DATABASE_URL": self.url,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONUNBUFFERED": "1",
            MARK: self.mark,
        }

    def configure(self, **settings: object) -> None:
        """Set AFTERSAVE settings for the processes started from now on."""
        known = json.loads(self.env.get("AFTERSAVE_SETTINGS", "{}"))
        self.env["AFTERSAVE_SETTINGS"] = json.dumps(known | settings)

    def manage(
        self, *arguments: object, check: bool = True, timeout: float = 120, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a manage.py command to its end; AssertionError with what it printed if it failed."""
        done = subprocess.run(
            self.command(arguments),
            cwd=PROJECT,
            env=self.env | env,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done

    def shell(self, code: str) -> str:
        """What this Python code prints, run in a process of the host with Django set up."""
        return self.manage("shell", "--verbosity=0", "--command", code).stdout

    def popen(self, *arguments: object, **env: str) -> Started:
        """Start a manage.py command, for example `popen("runworker", "--processes", 2)`."""
        return self.start(self.command(arguments), env=env)

    def web(self) -> str:
        """Start daphne on a free port; the address of its pages, without a slash at the end."""
        port = free_port()
        daphne = [sys.executable, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port)]
        started = self.start([*daphne, "config.asgi:application"])

        def serves() -> bool:
            assert started.poll() is None, started.output()
            return port_answers(port)

        wait_for(serves, timeout=30, what="daphne")
        return f"http://127.0.0.1:{port}"

    def start(self, command: list[str], *, env: Mapping[str, str] | None = None) -> Started:
        log = self.directory / f"{len(self.started)}.log"
        with log.open("wb") as output:
            process = Started(
                command,
                cwd=PROJECT,
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.log = log
        self.started.append(process)
        return process

    def command(self, arguments: tuple[object, ...]) -> list[str]:
        return [sys.executable, "manage.py", *map(str, arguments)]

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this host now, also what its own parent has left behind."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark
        except (psutil.Error, OSError):
            return False

    def stop(self) -> None:
        """Kill every process of this host and remove its database."""
        kill_all(self.processes())
        for process in self.started:
            process.wait(10)
        self.server.drop(self.name)

    @contextlib.contextmanager
    def as_default_database(self) -> Iterator[None]:
        """Inside, the ORM's database `default` of this process is the host's."""
        from django.contrib.contenttypes.models import ContentType

        from config.settings import database

        before = connections.settings["default"]
        connection = connections["default"]
        connections.settings["default"] = {
            **{**before, "OPTIONS": {}},
            **database(self.url),
        }
        del connections["default"]
        ContentType.objects.clear_cache()
        try:
            yield
        finally:
            connections["default"].close()
            connections.settings["default"] = before
            connections["default"] = connection
            ContentType.objects.clear_cache()
