"""A worker's part, played by a test; threads with connections of their own; who hears Redis."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import connection, connections
from django.db.models import F

from tasks.layer import RECEIVE_FOR
from tasks.models import State, Task
from tasks.settle import Ending, settle
from tests.services.waiting import wait_for

WORKER = 4711


def start(task: Task, *, worker: int = WORKER) -> Task:
    """Put a task into the hands of a worker, as a claim does."""
    rows = Task.objects.using(task._state.db).filter(pk=task.pk, state=State.SCHEDULED)
    claimed = rows.update(
        state=State.RUNNING,
        due=False,
        worker_id=worker,
        lease=F("lease") + 1,
        attempts=F("attempts") + 1,
    )
    assert claimed == 1, f"{task} was not scheduled"
    task.refresh_from_db()
    return task


def ending(task: Task, state: str = State.COMPLETED, **more: Any) -> Ending:
    """The end of an attempt as its worker knows it: with what the claim has told."""
    known = {"lease": task.lease, "has_dependents": task.has_dependents}
    return Ending(task_id=task.pk, state=state, **{**known, **more})


def finish(task: Task, state: str = State.COMPLETED, **more: Any) -> Task:
    """Start a task and bring it to an end, as a worker does."""
    start(task)
    assert settle(task._state.db or "default", WORKER, [ending(task, state, **more)]) == {task.pk}
    task.refresh_from_db()
    return task


def state_of(task: Task) -> str:
    return str(Task.objects.using(task._state.db).values_list("state", flat=True).get(pk=task.pk))


@contextmanager
def threads(count: int) -> Iterator[Callable[..., Future[Any]]]:
    """Inside, starts functions in threads with connections of their own."""

    def closing(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        yield lambda function, *arguments: pool.submit(closing, function, *arguments)


_BLOCKED = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'",
}


def wait_until_blocked(count: int = 1) -> None:
    """Wait until so many others wait for locks.

    Not on SQLite: there a writer does nothing at all before the one ahead of it has committed.
    """
    statement = _BLOCKED.get(connection.vendor)
    if statement is None:
        return

    def blocked() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return bool(cursor.fetchone()[0] >= count)

    every = 0.02
    if connection.vendor == "mysql":
        # MariaDB answers from a cache that it renews only after a tenth of a second without a
        # reader: asked sooner it tells who was blocked in the test before.
        every = 0.25
        time.sleep(every)
    wait_for(blocked, timeout=30, every=every, what="blocked on locks")


def joined(group: str) -> str:
    """A channel that hears what ``group`` is told through Redis."""

    async def join() -> str:
        layer = get_channel_layer()
        layer.brpop_timeout = RECEIVE_FOR  # else as long as redis-py 8 waits, and chance decides
        channel = await layer.new_channel()
        await layer.group_add(group, channel)
        return str(channel)

    return async_to_sync(join)()
