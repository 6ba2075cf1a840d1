"""Claims, attempts and workers for tests that play the engine's part."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connection, connections, transaction
from django.utils import timezone

from tasks.handlers import Handler, registry
from tasks.models import LogLine, Task, Worker
from workers.attempt import Attempt, Clock
from workers.claim import claim
from workers.finish import Flusher

ME = 4711
OTHER = 4712


def worker(worker_id: int = ME, *, beat: timedelta = timedelta(0), **columns: Any) -> Worker:
    """A living worker whose last heartbeat was so long ago."""
    return Worker.objects.create(
        id=worker_id,
        host="here",
        pid=1,
        threads=1,
        coroutines=1,
        heartbeat_at=timezone.now() - beat,
        **columns,
    )


def claimed(task: Task, *, by: int = ME) -> Task:
    """``task`` as ``by`` gets it from a claim of its queue, where it must be the first."""
    (mine,) = claim("default", task.queue, 1, by)
    assert mine.pk == task.pk
    return mine


def attempt(
    task: Task,
    function: Callable[[Task], Any] = lambda task: None,
    *,
    say: Callable[[Attempt, LogLine | None], None] = lambda attempt, line: None,
    **options: Any,
) -> Attempt:
    """An attempt at ``task``, claimed just now, whose handler is ``function``."""
    defaults = {"queue": None, "priority": 0, "max_attempts": None, "timeout": None}
    more = {"atomic": False, "backoff": None, "title": "", "is_async": False}
    people = {"on_failure": "", "runbook": "", "repeat": "", "search": (), "validate": None}
    made = Handler(name=task.name, function=function, **{**defaults, **more, **people, **options})
    return Attempt(task=task, handler=made, claimed=time.monotonic(), clock=Clock(), say=say)


def flusher() -> Flusher:
    return Flusher("default", lambda: None)


def forget_all_handlers() -> None:
    registry._handlers.clear()


@contextmanager
def row_locked(task: Task) -> Iterator[None]:
    """Inside, a transaction of another connection holds the row of ``task``."""
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                list(Task.objects.select_for_update().filter(pk=task.pk))
                locked.set()
                done.wait(20)
        finally:
            connections.close_all()

    thread = threading.Thread(target=hold)
    thread.start()
    assert locked.wait(10)
    try:
        yield
    finally:
        done.set()
        thread.join(10)


def explained(statement: str, params: Any) -> list[dict[str, Any]]:
    """All nodes of PostgreSQL's plan for a statement, which is not run."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", params)
        (plan,) = cursor.fetchone()[0]
    return list(_nodes(plan["Plan"]))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collects the statements run inside, with their parameters."""
    seen: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield seen


def end_other_sessions() -> None:
    """Handlers' threads never end, and PostgreSQL drops no database they are connected to."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
