"""How long a change takes from its commit to the row on a page, and what that costs the workers."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import django
import psutil
import psycopg

from benchmarks.drain import PROCESSES, rate_of, rotated
from benchmarks.host.turns import TOLD
from benchmarks.readers import Readers
from benchmarks.registry import AFTERSAVE, ROOT
from benchmarks.server import Server

MARKED = 20
SOCKETS = 19
OTHERS_A_SECOND = 1000
PAUSE = 0.3
WARM_UP = 5.0
DRAINED = 250_000
PATH = "/admin/tasks/task/?q=queue:marked"
TEMPLATE = "template live"


def live(server: Server, *, rounds: int, jobs: int | None = None) -> dict[str, Any]:
    """Seconds from commit to row by way, and how fast workers drain while pages are told or not."""
    with _redis(server.folder) as redis_url:
        _prepare(server)
        ways = {"redis": redis_url, "postgresql": ""}
        delays = {way: _delays(server, way, url) for way, url in ways.items()}
        drains: dict[str, list[Drained]] = {way: [] for way in ways}
        for turn in range(rounds):
            for way in rotated(list(drains), turn):
                done = _drain(server, f"{way} {turn}", ways[way], jobs or DRAINED)
                drains[way].append(done)
                print(
                    f"live {turn + 1}/{rounds} {way}: {done.rate:,.0f} jobs/s, told/silent "
                    f"{median(done.shares):.3f}, the web process {done.web:.1%}",
                    flush=True,
                )
    return {
        "delays": delays,
        "drains": {way: [asdict(one) for one in found] for way, found in drains.items()},
    }


@dataclass(frozen=True)
class Drained:
    """Jobs a second; for each second how fast it was while pages were told, as a share of how fast
    while they were not; and which share of a processor the web process took."""

    rate: float
    shares: list[float]
    web: float


def _prepare(server: Server) -> None:
    os.environ |= {
        **server.variables(TEMPLATE),
        "DJANGO_SETTINGS_MODULE": "benchmarks.host.live",
        "SECRET_KEY": "a benchmark keeps no secrets",
        # Playwright's loop runs in this thread.
        "DJANGO_ALLOW_ASYNC_UNSAFE": "1",
    }
    server.create(TEMPLATE)
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, check=True)
    django.setup()


def _delays(server: Server, way: str, redis_url: str) -> dict[str, float]:
    with _site(server, f"live {way}", redis_url) as site, ExitStack() as stack:
        tasks = _marked_tasks()
        stack.enter_context(site.process("-m", "benchmarks.host.feed", OTHERS_A_SECOND))
        stack.enter_context(site.workers("--queues", "other"))
        readers = Readers(site.web, PATH, site.cookie, sockets=SOCKETS)
        stack.enter_context(readers)
        time.sleep(WARM_UP)
        finished, since = _finished(), time.monotonic()
        found: list[float] = []
        for change, state in ((_cancel, "cancelled"), (_retry, "due"), (_cancel, "cancelled")):
            readers.forget()
            for task_id in tasks:
                time.sleep(PAUSE)
                committed = change(task_id)
                found += [moment - committed for moment in readers.seen(task_id, state)]
        others = (_finished() - finished) / (time.monotonic() - since)
    summary = {
        "median_ms": median(found) * 1e3,
        "p95_ms": quantiles(found, n=20)[18] * 1e3,
        "max_ms": max(found) * 1e3,
        "rows": len(found),
        "others_per_s": others,
    }
    print(f"live {way}: median {summary['median_ms']:.0f} ms, p95 {summary['p95_ms']:.0f} ms")
    return summary


def _drain(server: Server, name: str, redis_url: str, jobs: int) -> Drained:
    """Workers that tell pages every other second: what is compared is done at the same time."""
    from tasks import build, enqueue_many

    database = f"live {name}"
    with _site(server, database, redis_url) as site, ExitStack() as stack:
        _marked_tasks()
        tasks = enqueue_many([build("bench.noop", queue="other") for _ in range(jobs)])
        stack.enter_context(Readers(site.web, PATH, site.cookie, sockets=SOCKETS))
        watch = stack.enter_context(server.connect(database))
        stack.enter_context(site.workers(BENCH_TELLS_BY_TURNS="1"))
        before: list[float] = []
        rate = rate_of(
            server, database, AFTERSAVE, watch, [task.pk for task in tasks], site,
            begun=lambda: before.append(site.processor_of_web()),
        )  # fmt: skip
        web = (site.processor_of_web() - before[0]) * rate / jobs
        return Drained(rate, _shares(watch), web)


def _shares(watch: psycopg.Connection) -> list[float]:
    """Each second beside the mean of the one before and the one after, told beside silent ones.

    So a drain that becomes faster or slower as a whole says nothing.
    """
    seconds = watch.execute(
        "SELECT floor(extract(epoch FROM finished_at))::bigint AS second, count(*) FROM tasks_task"
        " WHERE queue = 'other' AND finished_at IS NOT NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    whole = seconds[1:-1]
    shares = []
    for (_, before), (second, jobs), (_, after) in zip(whole, whole[1:], whole[2:], strict=False):
        share = 2 * jobs / (before + after)
        shares.append(share if second % 2 == TOLD else 1 / share)
    if not shares:
        raise RuntimeError(f"the jobs were done in {len(seconds)} seconds: drain more of them")
    return shares


def _marked_tasks() -> list[int]:
    from tasks import build, enqueue_many

    marked = [build("bench.noop", queue="marked", delay=86400) for _ in range(MARKED)]
    return [task.pk for task in enqueue_many(marked)]


def _cancel(task_id: int) -> float:
    from tasks.models import Task

    return _timed(Task.objects.get(pk=task_id).cancel)


def _retry(task_id: int) -> float:
    from tasks.models import Task

    return _timed(Task.objects.get(pk=task_id).retry)


def _timed(change: Any) -> float:
    """Do it in a transaction; when that was committed (time.time())."""
    from django.db import transaction

    moments: list[float] = []
    with transaction.atomic():
        transaction.on_commit(lambda: moments.append(time.time()))
        change()
    return moments[0]


def _finished() -> int:
    from tasks.models import State, Task

    return int(Task.objects.filter(queue="other", state=State.COMPLETED).count())


class _Site:
    """A web server on a database of its own, and processes beside it."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.environment = dict(environment)
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.web = f"http://127.0.0.1:{self.port}"
        self.cookie = _sign_in()

    @contextmanager
    def process(self, *words: object, **variables: str) -> Iterator[None]:
        log = (self.folder / f"site-{len(self.started)}.log").open("wb")
        started = subprocess.Popen(
            [sys.executable, *map(str, words)],
            cwd=ROOT, env=self.environment | variables,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        self.started.append(started)
        try:
            yield
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(60)
            log.close()

    def workers(self, *options: str, **variables: str) -> Any:
        words = ("manage.py", "runworker", "--processes", PROCESSES, *options)
        return self.process(*words, **variables)

    def processor_of_web(self) -> float:
        """Seconds that the web server has taken so far."""
        return sum(psutil.Process(self.started[0].pid).cpu_times()[:2])

    def check(self) -> None:
        for one in self.started:
            if one.poll() is not None:
                raise RuntimeError(f"{one.args} ended with {one.returncode}")

    def logs(self) -> str:
        logs = sorted(self.folder.glob("site-*.log"))
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)

    def wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            self.check()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the web server does not answer")


@contextmanager
def _site(server: Server, database: str, redis_url: str) -> Iterator[_Site]:
    from django.db import connections

    server.create(database, template=TEMPLATE)
    connections["default"].close()
    connections["default"].settings_dict["NAME"] = database
    environment = {
        **os.environ,
        **server.variables(database),
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
    }
    try:
        site = _Site(environment, server.folder)
        daphne = ("-m", "daphne", "-b", "127.0.0.1", "-p", site.port, "config.asgi:application")
        with site.process(*daphne), _ringing_by(redis_url):
            site.wait_until_it_serves()
            yield site
    finally:
        connections["default"].close()
        server.drop(database)


@contextmanager
def _ringing_by(redis_url: str) -> Iterator[None]:
    """Inside, changes of this process are told as those of the site's are."""
    from django.test import override_settings

    from config.settings import CHANNEL_LAYERS

    redis = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [redis_url]}}
    with override_settings(CHANNEL_LAYERS={"default": redis} if redis_url else CHANNEL_LAYERS):
        yield


def _sign_in() -> str:
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore

    user = User.objects.create_superuser("bench")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is not here: install the Debian package redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([program, *options], cwd=folder, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(20)
