"""Creating tasks: the only place where task rows are made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from graphlib import CycleError, TopologicalSorter
from typing import Any

from django.db import connections, models, router, transaction
from django.utils import timezone

from tasks.conf import aftersave_settings
from tasks.exceptions import CircularPrerequisites, InvalidTask, RecordNotSaved
from tasks.handlers import current_task, registry
from tasks.insert import insert
from tasks.models import Task
from tasks.models.records import record_alias, record_key
from tasks.names import split_name
from tasks.options import wrong_option
from tasks.text import checked_data, is_storable

UNIQUE_KEY_LENGTH = 255


def enqueue(name: str, data: dict[str, Any] | None = None, **options: Any) -> Task:
    """Create one task in the current transaction; workers see it after the commit.

    Options: those of ``build``. Returns the task, or with ``unique_key`` the one that has the key
    and can still run. Raises InvalidTask (see its subclasses); then nothing is written.
    """
    return enqueue_many([build(name, data, **options)])[0]


def build(
    name: str,
    data: dict[str, Any] | None = None,
    *,
    record: models.Model | None = None,
    using: str | None = None,
    queue: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    timeout: float | None = None,
    run_at: datetime | None = None,
    delay: timedelta | float | None = None,
    after: Iterable[Task] = (),
    unique_key: str | None = None,
) -> Task:
    """An unsaved task, for a rule to yield or for ``enqueue_many``.

    ``record`` owns the task, which is then written on the record's database; without one
    ``using`` names the alias. ``run_at`` (aware) or ``delay`` (seconds or timedelta): not before.
    ``after``: tasks, built or saved, that must be completed first. ``unique_key``: at most one
    task of this name with this key can run or wait. The rest overrides the handler's options.

    Raises InvalidTask: a bad name, data that is not JSON or too large, a bad option.
    """
    type_, action = split_name(name)
    if record is not None and not isinstance(record, models.Model):
        raise InvalidTask(f"Task {name!r}: record={record!r} is not a model instance.")
    data = checked_data(name, {} if data is None else data)
    alias = using or (router.db_for_write(Task) if record is None else record_alias(record))
    if record is not None and alias != record_alias(record):
        raise InvalidTask(
            f"Task {name!r} must be written on {record_alias(record)!r}, the database of its "
            f"record, not on {alias!r}."
        )
    wrong = wrong_option(queue=queue, priority=priority, max_attempts=max_attempts, timeout=timeout)
    if wrong:
        raise InvalidTask(f"Task {name!r}: {wrong}.")
    known = registry.get(name)
    now = timezone.now()
    task = Task(
        type=type_,
        action=action,
        data=data,
        queue=_first(queue, known and known.queue, aftersave_settings.DEFAULT_QUEUE),
        priority=_first(priority, known and known.priority, 0),
        max_attempts=_first(
            max_attempts, known and known.max_attempts, aftersave_settings.MAX_ATTEMPTS
        ),
        timeout=_first(timeout, known and known.timeout, None),
        run_at=_start(name, now, run_at, delay),
        created_at=now,
    )
    task.due = task.run_at <= now
    task._state.db = alias
    task._after = _prerequisites(name, after)
    if unique_key is not None:
        task.live_key = task.context["unique_key"] = _live_key(name, unique_key)
    if record is not None:
        if record._state.adding:
            raise RecordNotSaved(record)
        task.content_type, task.object_id = record_key(record, alias)
        task.__dict__["_record"] = record
    parent = current_task.get()
    if parent is not None:
        task.context["origin"] = f"task:{parent.pk}"
    return task


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _start(
    name: str, now: datetime, run_at: datetime | None, delay: timedelta | float | None
) -> datetime:
    if run_at is not None and delay is not None:
        raise InvalidTask(f"Task {name!r}: give run_at or delay, not both.")
    if delay is not None:
        try:
            return now + (delay if isinstance(delay, timedelta) else timedelta(seconds=delay))
        except (OverflowError, TypeError, ValueError) as error:
            raise InvalidTask(f"Task {name!r}: delay={delay!r} is no time: {error}.") from None
    if run_at is not None and not isinstance(run_at, datetime):
        raise InvalidTask(f"Task {name!r}: run_at={run_at!r} is not a datetime.")
    if run_at is not None and timezone.is_naive(run_at) != timezone.is_naive(now):
        raise InvalidTask(
            f"Task {name!r}: run_at={run_at!r} must be aware exactly when USE_TZ is True."
        )
    return run_at or now


def _live_key(name: str, unique_key: str) -> str:
    key = f"{name}:{unique_key}"
    if len(key) > UNIQUE_KEY_LENGTH:
        raise InvalidTask(
            f"Task {name!r}: name and unique_key have {len(key)} characters together, "
            f"{UNIQUE_KEY_LENGTH} fit."
        )
    # MariaDB takes 'a' and 'a ' for the same key.
    if not is_storable(key) or key.endswith(" "):
        raise InvalidTask(
            f"Task {name!r}: unique_key={unique_key!r} ends with a space, or contains a NUL or a "
            "lone surrogate."
        )
    return key


def _prerequisites(name: str, after: Iterable[Task]) -> tuple[Task, ...]:
    if isinstance(after, Task):
        raise InvalidTask(f"Task {name!r}: after= takes a list of tasks; write after=[task].")
    found = tuple(after)
    for task in found:
        if not isinstance(task, Task):
            raise InvalidTask(f"Task {name!r}: after= takes tasks, not {task!r}.")
    return found


def enqueue_many(tasks: Iterable[Task]) -> list[Task]:
    """Create tasks made by ``build``: all of them or none, a bulk INSERT per 2,000.

    Returns them in the order given; where a ``unique_key`` was taken, the task that has it. Tasks
    of several databases are several transactions. Raises InvalidTask; then nothing is written.
    """
    given = list(tasks)
    for task in given:
        if not isinstance(task, Task):
            raise InvalidTask(f"enqueue_many takes tasks made by build(...), not {task!r}.")
    ordered = _prerequisites_first(list({id(task): task for task in given}.values()))
    _check_whole(ordered)
    by_alias: dict[str, list[Task]] = defaultdict(list)
    for task in ordered:
        by_alias[task._state.db or router.db_for_write(Task)].append(task)
    instead: dict[int, Task] = {}
    with ExitStack() as transactions:
        for using in by_alias:
            # In the host's transaction none of our own: a task refused must not break it.
            if len(by_alias) > 1 or not connections[using].in_atomic_block:
                transactions.enter_context(transaction.atomic(using=using, savepoint=False))
        for using, mine in by_alias.items():
            instead |= insert(using, mine)
    return [instead.get(id(task), task) for task in given]


def _prerequisites_first(given: Sequence[Task]) -> list[Task]:
    """Sorted so that ids grow from prerequisite to dependent: all locks are taken in id order."""
    if not any(task._after for task in given):
        return list(given)
    new = {id(task): task for task in given}
    graph = {key: [id(p) for p in task._after if p.pk is None] for key, task in new.items()}
    names = {id(p): p.name for task in given for p in (task, *task._after)}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise CircularPrerequisites([names[key] for key in error.args[1]]) from None
    for key in order:
        if key not in new:
            raise InvalidTask(
                f"A task waits for {names[key]!r}, which is neither saved nor created with it: "
                "yield it from the rule too, or pass it to enqueue_many."
            )
    return [new[key] for key in order]


def _check_whole(tasks: Sequence[Task]) -> None:
    for task in tasks:
        if task.pk is not None:
            raise InvalidTask(f"Task {task.pk} ({task.name}) exists already; build a new one.")
        for prerequisite in task._after:
            if prerequisite._state.db != task._state.db:
                raise InvalidTask(
                    f"Task {task.name!r} on {task._state.db!r} cannot wait for "
                    f"{prerequisite.name!r} on {prerequisite._state.db!r}: one transaction "
                    "cannot settle both."
                )
