"""What staff and host code do to a task by hand; each is one row in TaskEvent."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from tasks import bell, signals
from tasks.exceptions import TransitionRefused, UniqueKeyTaken
from tasks.models import FINAL, Prerequisite, State, Task, TaskEvent
from tasks.models.clock import DatabaseNow
from tasks.settle import settle_by_hand
from tasks.text import clean, one_line

RETRYABLE = FINAL
CANCELLABLE = (State.WAITING, State.SCHEDULED)
COMPLETABLE = (State.FAILED, State.CANCELLED)


def retry(task: Task, *, by: object = None, reason: str = "") -> None:
    """See ``Task.retry``."""
    using = _alias(task)
    with transaction.atomic(using=using):
        row = _locked(using, task, RETRYABLE, "retried")
        key = _free_key(using, row)
        # As many attempts as it was created with, however often it is retried.
        allowed = row.context.setdefault("max_attempts", row.max_attempts)
        # Of a cancelled prerequisite the person has decided; any other may still complete.
        settled = (State.COMPLETED, State.CANCELLED)
        must_wait = any(prerequisite.state not in settled for prerequisite in row._after)
        row.state = State.WAITING if must_wait else State.SCHEDULED
        row.due = row.state == State.SCHEDULED
        _write_retry(
            using,
            row,
            state=row.state,
            due=row.due,
            run_at=DatabaseNow(),
            max_attempts=row.attempts + allowed,
            context=row.context,
            result=None,
            progress_value=None,
            started_at=None,
            finished_at=None,
            worker_id=None,
            reason="",
            fingerprint="",
            live_key=key,
        )
        _record(using, row, "retry", by, reason)
        if row.due:
            bell.ring_after_commit(using, {row.queue})
    task.refresh_from_db()


def _write_retry(using: str, row: Task, **columns: Any) -> None:
    try:
        with transaction.atomic(using=using):
            Task.objects.using(using).filter(pk=row.pk).update(**columns)
    except IntegrityError:
        # Somebody committed the same key since we looked.
        _free_key(using, row)
        raise


def cancel(task: Task, *, by: object = None, reason: str = "") -> None:
    """See ``Task.cancel``."""
    _end(task, CANCELLABLE, "cancelled", "cancel", State.CANCELLED, by, reason)


def complete(task: Task, *, by: object = None, reason: str = "") -> None:
    """See ``Task.complete``."""
    _end(task, COMPLETABLE, "marked as done", "complete", State.COMPLETED, by, reason)


def _end(
    task: Task,
    allowed: Collection[str],
    wanted: str,
    action: str,
    state: State,
    by: object,
    reason: str,
) -> None:
    using = _alias(task)
    with transaction.atomic(using=using):
        row = _locked(using, task, allowed, wanted)
        who = name_of(by)
        line = f"{wanted} by {who}" if who else wanted
        settle_by_hand(using, [row.pk], state, one_line(f"{line}: {reason}" if reason else line))
        _record(using, row, action, by, reason)
    task.refresh_from_db()


def name_of(by: object) -> str:
    """Who, as text: a user's username, or what was given."""
    if by is None:
        return ""
    username: Any = getattr(by, "get_username", None)
    return clean(str(username() if username else by), 150)


def _alias(task: Task) -> str:
    return task._state.db or "default"


def _locked(using: str, task: Task, allowed: Collection[str], wanted: str) -> Task:
    # With its prerequisites, in id order: a retry depends on what they are.
    links = Prerequisite.objects.using(using).filter(task=task.pk)
    ids = [task.pk, *links.values_list("prerequisite_id", flat=True)]
    rows = {row.pk: row for row in Task.objects.using(using).filter(pk__in=ids).locked()}
    if task.pk not in rows:
        raise Task.DoesNotExist(f"Task {task.pk} does not exist any more.")
    row = rows.pop(task.pk)
    row._after = tuple(rows.values())
    if row.state not in allowed:
        words = ", ".join(str(State(state).value) for state in allowed)
        raise TransitionRefused(row, row.shown_state, wanted, words)
    return row


def _free_key(using: str, row: Task) -> str | None:
    key: str | None = row.context.get("unique_key")
    holder = Task.objects.using(using).filter(live_key=key).first() if key else None
    if holder is not None:
        raise UniqueKeyTaken(row, holder.pk)
    return key


def _record(using: str, row: Task, action: str, by: object, reason: str) -> None:
    event = TaskEvent.objects.using(using).create(
        task=row, at=timezone.now(), who=name_of(by), action=action, reason=clean(reason, 4000)
    )
    send = partial(signals.staff_acted.send_robust, None, using=using, event=event)
    transaction.on_commit(send, using=using, robust=True)
