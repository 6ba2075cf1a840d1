"""Claiming: due tasks become running ones of this worker, in one statement where that exists."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from django.db import connections, transaction
from django.db.models import CharField, Exists, F, Value
from django.db.models.base import ModelState
from django.db.models.functions import Concat
from django.db.models.lookups import In

from tasks.models import Queue, State, Task, TaskQuerySet
from tasks.names import OWN

Names = tuple[str, ...]

_TAKE = """
    state = 'running', due = FALSE, worker_id = %s, lease = lease + 1, attempts = attempts + 1,
    started_at = NULL, progress = NULL
"""
#: Stands in the compiled statement where each claim puts its own.
_ANY_LIMIT = 2**31 - 1
# What a handler needs at once; Django loads the other columns if somebody asks for them. run_at
# as a number, because parsing a date costs more than the rest of the row.
_FETCHED = (
    "task.id, task.type, task.action, task.data, task.priority, date_part('epoch', task.run_at), "
    "task.attempts, task.max_attempts, task.timeout, task.lease, task.has_dependents, "
    "task.idempotency_key, task.context, task.content_type_id, task.object_id"
)
# MATERIALIZED, or the planner may run the LIMIT again for each joined row and claim too many.
_POSTGRESQL = f"""
WITH candidate AS MATERIALIZED ({{candidates}})
UPDATE tasks_task task SET {_TAKE} FROM candidate WHERE task.id = candidate.id
RETURNING {_FETCHED}
"""
_SINGLE_WRITER = f"UPDATE tasks_task SET {_TAKE} WHERE id IN ({{candidates}}) RETURNING *"


def claim(
    using: str,
    queue: str,
    limit: int,
    worker: int,
    names: Collection[str] | None = None,
    exclude: Collection[str] = (),
) -> list[Task]:
    """Up to ``limit`` due tasks of ``queue``, now running under ``worker`` with a raised lease.

    Highest priority first, then oldest ``run_at``. ``names``: only these task names; ``exclude``:
    none of these. A paused queue gives nothing, but Aftersave's own cannot be paused.
    """
    only = None if names is None else tuple(sorted(names))
    without = tuple(sorted(exclude))
    if only == ():
        return []
    vendor = connections[using].vendor
    if vendor == "mysql":
        claimed = _claim_in_two_steps(using, queue, limit, worker, only, without)
    else:
        sql, params = _one_statement(using, queue, only, without)
        if vendor == "postgresql":
            return _claim_at_once(using, queue, sql, [*params, limit, worker])
        claimed = list(Task.objects.using(using).raw(sql, [worker, *params, limit]))
    return sorted(claimed, key=lambda task: (-task.priority, task.run_at, task.pk))


def _claim_at_once(using: str, queue: str, sql: str, params: list[Any]) -> list[Task]:
    with connections[using].cursor() as cursor:
        cursor.execute(sql, params)
        rows = cursor.fetchall()
    rows.sort(key=lambda row: (-row[4], row[5], row[0]))
    return [_running_task(using, queue, params[-1], row) for row in rows]


def _running_task(using: str, queue: str, worker: int, row: tuple[Any, ...]) -> Task:
    """A task from its claimed columns. Model.__init__ would cost more than all the rest."""
    task = Task.__new__(Task)
    task._state = ModelState()
    task._state.db = using
    task._state.adding = False
    task.__dict__ |= {
        "id": row[0],
        "type": row[1],
        "action": row[2],
        "data": json.loads(row[3]),
        "state": State.RUNNING,
        "due": False,
        "queue": queue,
        "priority": row[4],
        "_runnable_at": row[5],
        "attempts": row[6],
        "max_attempts": row[7],
        "timeout": row[8],
        "result": None,
        "progress_value": None,
        "worker_id": worker,
        "lease": row[9],
        "started_at": None,
        "finished_at": None,
        "has_dependents": row[10],
        "idempotency_key": row[11],
        "context": json.loads(row[12]),
        "content_type_id": row[13],
        "object_id": row[14],
    }
    return task


def _candidates(queue: str, limit: int, names: Names | None, exclude: Names) -> TaskQuerySet:
    tasks = Task.objects.filter(queue=queue, state=State.SCHEDULED, due=True)
    if queue != OWN:
        tasks = tasks.filter(~Exists(Queue.objects.filter(name=queue, paused_at__isnull=False)))
    full_name = Concat("type", Value("."), "action", output_field=CharField())
    if names is not None:
        tasks = tasks.filter(In(full_name, names))
    if exclude:
        tasks = tasks.exclude(In(full_name, exclude))
    return tasks.order_by("-priority", "run_at", "id")[:limit]


@lru_cache(maxsize=512)
def _one_statement(
    using: str, queue: str, names: Names | None, exclude: Names
) -> tuple[str, tuple[Any, ...]]:
    """The statement, and its parameters but for the limit and the worker."""
    connection = connections[using]
    rows = _candidates(queue, _ANY_LIMIT, names, exclude).using(using).values("id")
    statement = _SINGLE_WRITER
    if connection.features.has_select_for_update_skip_locked:
        statement = _POSTGRESQL
        rows = rows.select_for_update(skip_locked=True, no_key=True, of=("self",))
    with transaction.atomic(using=using):
        sql, params = rows.query.get_compiler(using).as_sql()
    return statement.format(candidates=sql.replace(f"LIMIT {_ANY_LIMIT}", "LIMIT %s")), params


def _claim_in_two_steps(
    using: str, queue: str, limit: int, worker: int, names: Names | None, exclude: Names
) -> list[Task]:
    with transaction.atomic(using=using):
        rows = _candidates(queue, limit, names, exclude).using(using)
        found = list(rows.select_for_update(skip_locked=True))
        Task.objects.using(using).filter(pk__in=[task.pk for task in found]).update(
            state=State.RUNNING,
            due=False,
            worker_id=worker,
            lease=F("lease") + 1,
            attempts=F("attempts") + 1,
            started_at=None,
            progress_value=None,
        )
    for task in found:
        task.state, task.due, task.worker_id = State.RUNNING, False, worker
        task.lease += 1
        task.attempts += 1
        task.started_at = task.progress_value = None
    return found
