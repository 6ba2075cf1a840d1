"""For tests of host projects: run tasks inside a TestCase, and see what was enqueued."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from asgiref.sync import async_to_sync
from django.db import connections, models, transaction

from tasks.exceptions import AftersaveError
from tasks.handlers import Handler
from tasks.models import Task
from tasks.models.records import record_alias
from tasks.rules import without_rules
from workers.attempt import Attempt, Clock, GivenBack, Outcome
from workers.claim import claim
from workers.execute import execute, execute_async
from workers.finish import Flusher
from workers.look import due_queues
from workers.rescue import make_due

__all__ = ["HandlerMissing", "assert_enqueued", "run_tasks", "without_rules"]

#: No worker has a negative id.
_WORKER = -1
_MOST_SHOWN = 20


class HandlerMissing(AftersaveError, LookupError):
    """A due task has a name that no handler is registered for; it was given back."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            f"Task {task.pk} is due, but {task.name!r} has no handler here. Is the module that "
            "registers it imported, and its app in INSTALLED_APPS?"
        )


def run_tasks(
    using: str = "default", queues: Collection[str] | None = None, limit: int = 1000
) -> list[Task]:
    """Run due tasks here and now, one after the other, also inside a TestCase's transaction.

    Goes on with what becomes due on the way (released by a prerequisite, or retried at once),
    until nothing is due or ``limit`` attempts were made. ``queues``: only these; without it every
    queue that is not paused. Handlers run and tasks end as in a worker: what a handler raises is
    kept on its task and not raised here, a retry later is not waited for. Async handlers run on an
    event loop of their own, so from a coroutine call ``await sync_to_async(run_tasks)()``.

    Returns the tasks that ran, each once, in order and as they are now. Raises HandlerMissing.
    """
    ran: dict[int, None] = {}
    attempts = 0
    while attempts < limit and (task := _next(using, queues)) is not None:
        ran[task.pk] = None
        attempts += 1
        _run(using, task)
    now = Task.objects.using(using).in_bulk(list(ran))
    return [now[pk] for pk in ran if pk in now]


def _next(using: str, queues: Collection[str] | None) -> Task | None:
    make_due(using)
    for queue in due_queues(using) if queues is None else queues:
        # One at a time, as a handler may cancel or enqueue what comes next.
        for task in claim(using, queue, 1, _WORKER):
            return task
    return None


def _run(using: str, task: Task) -> None:
    flusher = Flusher(using, lambda: None)
    if task.handler is None:
        flusher.push(GivenBack(task_id=task.pk, lease=task.lease, queue=task.queue))
        flusher.flush(_WORKER)
        raise HandlerMissing(task)
    flusher.push(_outcome(using, task, task.handler, flusher))
    flusher.flush(_WORKER)


def _outcome(using: str, task: Task, handler: Handler, flusher: Flusher) -> Outcome:
    attempt = Attempt(
        task=task, handler=handler, claimed=monotonic(), clock=Clock(), say=flusher.say
    )
    with _kept_usable(using):
        if handler.is_async:
            return async_to_sync(execute_async)(attempt)
        return execute(attempt)


@contextmanager
def _kept_usable(using: str) -> Iterator[None]:
    """Where a test's transaction is open, undo what a handler did if it broke the transaction.

    In a worker there is no transaction around the handler that could break.
    """
    connection = connections[using]
    if not connection.in_atomic_block:
        yield
        return
    before = transaction.savepoint(using)
    yield
    if connection.needs_rollback or not connection.is_usable():
        transaction.set_rollback(False, using)
        transaction.savepoint_rollback(before, using)
    else:
        transaction.savepoint_commit(before, using)


def assert_enqueued(
    name: str,
    *,
    record: models.Model | None = None,
    data: dict[str, Any] | None = None,
    count: int = 1,
    using: str | None = None,
) -> list[Task]:
    """Assert that exactly ``count`` tasks called ``name`` exist, in whatever state.

    ``record``: owned by this one; ``data``: with exactly this payload; ``using``: on this alias
    (the record's, or "default"). Returns them in the order of their creation. Raises
    AssertionError with a list of what was enqueued.
    """
    alias = using or (record_alias(record) if record is not None else "default")
    tasks = Task.objects.using(alias).order_by("pk")
    found = tasks.named(name) if record is None else tasks.named(name).of(record)
    matching = [task for task in found if data is None or task.data == data]
    if len(matching) != count:
        raise AssertionError(
            f"Expected {count} of {_wanted(name, record, data)}, found {len(matching)}. "
            f"{_listed(tasks)}"
        )
    return matching


def _wanted(name: str, record: models.Model | None, data: dict[str, Any] | None) -> str:
    whose = "" if record is None else f" for {record._meta.label} {record.pk}"
    return f"{name}{whose}" + ("" if data is None else f" with data {data!r}")


def _listed(tasks: models.QuerySet[Task]) -> str:
    shown = list(tasks.select_related("content_type")[: _MOST_SHOWN + 1])
    if not shown:
        return "No task was enqueued."
    lines = [f"  {_described(task)}" for task in shown[:_MOST_SHOWN]]
    more = ["  ..."] if len(shown) > _MOST_SHOWN else []
    return "\n".join(["Enqueued were:", *lines, *more])


def _described(task: Task) -> str:
    owner = task.content_type and task.content_type.model_class()
    whose = f" for {owner._meta.label} {task.object_id}" if owner else ""
    return f"#{task.pk} {task.name}{whose} with data {task.data!r}, {task.shown_state}"
