"""Claiming: due tasks become running ones of this worker, in one statement where that exists."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from django.db import connections, transaction
from django.db.models import CharField, Exists, F, Value
from django.db.models.functions import Concat

from tasks.models import Queue, State, Task, TaskQuerySet

Names = tuple[str, ...]

# MATERIALIZED, or the planner may run the LIMIT again for each joined row and claim too many.
_POSTGRESQL = """
WITH candidate AS MATERIALIZED ({candidates})
UPDATE tasks_task task
SET state = 'running', due = FALSE, worker_id = %s, lease = lease + 1, attempts = attempts + 1,
    started_at = NULL, progress = NULL
FROM candidate WHERE task.id = candidate.id RETURNING task.*
"""
_SINGLE_WRITER = """
UPDATE tasks_task
SET state = 'running', due = FALSE, worker_id = %s, lease = lease + 1, attempts = attempts + 1,
    started_at = NULL, progress = NULL
WHERE id IN ({candidates}) RETURNING *
"""


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
    none of these. A paused queue gives nothing.
    """
    only = None if names is None else tuple(sorted(names))
    without = tuple(sorted(exclude))
    if connections[using].vendor == "mysql":
        claimed = _claim_in_two_steps(using, queue, limit, worker, only, without)
    else:
        sql, params = _one_statement(using, queue, limit, only, without)
        bound = [worker, *params] if connections[using].vendor == "sqlite" else [*params, worker]
        claimed = list(Task.objects.using(using).raw(sql, bound))
    return sorted(claimed, key=lambda task: (-task.priority, task.run_at, task.pk))


def _candidates(queue: str, limit: int, names: Names | None, exclude: Names) -> TaskQuerySet:
    paused = Queue.objects.filter(name=queue, paused_at__isnull=False)
    tasks = Task.objects.filter(~Exists(paused), queue=queue, state=State.SCHEDULED, due=True)
    if names is not None or exclude:
        tasks = tasks.alias(
            full_name=Concat("type", Value("."), "action", output_field=CharField())
        )
    if names is not None:
        tasks = tasks.filter(full_name__in=names)
    if exclude:
        tasks = tasks.exclude(full_name__in=exclude)
    return tasks.order_by("-priority", "run_at", "id")[:limit]


@lru_cache(maxsize=512)
def _one_statement(
    using: str, queue: str, limit: int, names: Names | None, exclude: Names
) -> tuple[str, tuple[Any, ...]]:
    connection = connections[using]
    rows = _candidates(queue, limit, names, exclude).using(using).values("id")
    statement = _SINGLE_WRITER
    if connection.features.has_select_for_update_skip_locked:
        statement = _POSTGRESQL
        rows = rows.select_for_update(skip_locked=True, no_key=True, of=("self",))
    with transaction.atomic(using=using):
        sql, params = rows.query.get_compiler(using).as_sql()
    return statement.format(candidates=sql), params


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
