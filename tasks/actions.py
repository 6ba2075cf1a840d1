"""What staff and host code do to a task by hand; each is one row in TaskEvent."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from tasks import search_keys
from tasks.difference import difference
from tasks.exceptions import (
    DataRefused,
    NothingToRestore,
    ReasonMissing,
    TransitionRefused,
)
from tasks.handlers import registry
from tasks.models import BulkAction, Incident, State, Task, TaskEvent
from tasks.text import checked_data, clean, one_line
from tasks.transitions import (
    Deed,
    Move,
    Moved,
    lock,
    move,
    record,
    write,
    write_cancelled,
    write_completed,
    write_retry,
    write_run_now,
)

_LONGEST_WHY = 20_000
_LATER = ("later", "retrying")
_SCHEDULED = ("due", *_LATER)

#: Every way staff may move tasks that are given by their ids.
MOVES = {
    "retry": Move(wanted="retried", states=("failed", "cancelled"), write=write_retry),
    "run_again": Move(wanted="run again", states=("completed",), write=write_retry),
    "run_now": Move(wanted="run now", states=_LATER, write=write_run_now),
    "cancel": Move(
        wanted="cancelled",
        states=("waiting", *_SCHEDULED),
        write=write_cancelled,
        ends=State.CANCELLED,
    ),
    "complete": Move(
        wanted="marked as done",
        states=("failed", "cancelled"),
        write=write_completed,
        ends=State.COMPLETED,
    ),
}
#: Host code may retry what is completed without saying why.
_RETRY = Move(wanted="retried", states=("completed", "failed", "cancelled"), write=write_retry)


def _only_data(using: str, rows: list[Task], line: str) -> None:
    """The state stays as it is."""


#: Other data for a task that goes on as it is.
CHANGE = Move(
    wanted="given other data",
    states=("waiting", *_SCHEDULED, "failed", "cancelled"),
    write=_only_data,
)


@dataclass(frozen=True)
class Outcome:
    """What became of tasks: the ids of those it was done to, and how many were not, by why.

    Reasons are the words of ``Task.shown_state``, ``unique_key`` (another task has it) and
    ``gone`` (deleted).
    """

    done: frozenset[int]
    skipped: dict[str, int]


def many(
    using: str,
    ids: Collection[int],
    action: str,
    *,
    by: object = None,
    reason: str = "",
    bulk: BulkAction | None = None,
    incident: Incident | None = None,
) -> Outcome:
    """Do ``action`` (of ``MOVES``) to the tasks it fits, in one transaction and few statements.

    For some hundred tasks at once: their rows are locked, waiting for who has them.
    """
    deed = Deed(action=action, who=name_of(by), reason=reason, bulk=bulk, incident=incident)
    moved = move(using, set(ids), MOVES[action], deed)
    skipped = Counter(
        error.state if isinstance(error, TransitionRefused) else "unique_key"
        for error in moved.refused.values()
    )
    if moved.gone:
        skipped["gone"] = len(moved.gone)
    return Outcome(frozenset(moved.events), dict(skipped))


def retry(task: Task, *, by: object = None, reason: str = "", **part_of: Any) -> TaskEvent:
    """See ``Task.retry``. ``part_of``: the ``bulk`` or ``incident`` it belongs to."""
    return _move_one(task, _RETRY, Deed(action="retry", who=name_of(by), reason=reason, **part_of))


def run_again(task: Task, *, reason: str, by: object = None, **part_of: Any) -> TaskEvent:
    """See ``Task.run_again``."""
    way = MOVES["run_again"]
    if not reason.strip():
        raise ReasonMissing(way.wanted)
    deed = Deed(action="run_again", who=name_of(by), reason=reason, **part_of)
    return _move_one(task, way, deed)


def run_now(task: Task, *, by: object = None, reason: str = "", **part_of: Any) -> TaskEvent:
    """See ``Task.run_now``."""
    deed = Deed(action="run_now", who=name_of(by), reason=reason, **part_of)
    return _move_one(task, MOVES["run_now"], deed)


def cancel(task: Task, *, by: object = None, reason: str = "", **part_of: Any) -> TaskEvent:
    """See ``Task.cancel``."""
    deed = Deed(action="cancel", who=name_of(by), reason=reason, **part_of)
    return _move_one(task, MOVES["cancel"], deed)


def complete(task: Task, *, by: object = None, reason: str = "", **part_of: Any) -> TaskEvent:
    """See ``Task.complete``."""
    deed = Deed(action="complete", who=name_of(by), reason=reason, **part_of)
    return _move_one(task, MOVES["complete"], deed)


def change_data(
    task: Task, data: dict[str, Any], *, reason: str, by: object = None, retry: bool = False
) -> TaskEvent:
    """See ``Task.change_data``."""
    if not reason.strip():
        raise ReasonMissing(CHANGE.wanted)
    action = "change_and_retry" if retry else "change_data"
    deed = Deed(action=action, who=name_of(by), reason=reason)
    return _change(task, accepted_data(task.name, data), _RETRY if retry else CHANGE, deed)


def restore(task: Task, event: TaskEvent, *, by: object = None, reason: str = "") -> TaskEvent:
    """See ``Task.restore``."""
    if event.task_id != task.pk or event.before is None:
        raise NothingToRestore(task, event)
    deed = Deed(action="restore", who=name_of(by), reason=reason)
    with transaction.atomic(using=_alias(task)):
        restored = _change(task, event.before, CHANGE, deed)
        if not restored.difference:
            raise NothingToRestore(task, event)
    return restored


def accepted_data(name: str, data: Any) -> dict[str, Any]:
    """A copy of ``data`` that can be stored and that the handler's ``validate`` accepts.

    Raises InvalidData, DataTooLarge, DataRefused.
    """
    checked = checked_data(name, data)
    known = registry.get(name)
    if known is None or known.validate is None:
        return checked
    try:
        known.validate(copy.deepcopy(checked))
    except ValidationError as error:
        raise DataRefused(name, _why(" ".join(error.messages))) from error
    except ValueError as error:
        raise DataRefused(name, _why(str(error))) from error
    except Exception as error:
        # data["to"] of a check that never met data without it: still no reason for a 500.
        raise DataRefused(name, _why(f"{type(error).__name__}: {error}")) from error
    return checked


def _why(text: str) -> str:
    # Not as short as it is shown: of the hidden values that it may repeat none must be cut.
    return one_line(text, _LONGEST_WHY)


def name_of(by: object) -> str:
    """Who, as text: a user's username, or what was given."""
    if by is None:
        return ""
    username: Any = getattr(by, "get_username", None)
    return clean(str(username() if username else by), 150)


def _alias(task: Task) -> str:
    return task._state.db or "default"


def _move_one(task: Task, way: Move, deed: Deed) -> TaskEvent:
    moved = move(_alias(task), {task.pk}, way, deed)
    _raise_refusal(task, moved)
    task.refresh_from_db(using=_alias(task))
    return moved.events[task.pk]


def _change(task: Task, data: dict[str, Any], way: Move, deed: Deed) -> TaskEvent:
    using = _alias(task)
    with transaction.atomic(using=using):
        rows = lock(using, {task.pk}, way, whole=True)
        moved = Moved(gone={task.pk} - rows.keys())
        done = write(using, rows.values(), way, deed, moved)
        _raise_refusal(task, moved)
        row = done[0]
        before, row.data = row.data, data
        Task.objects.using(using).filter(pk=row.pk).update(data=data)
        search_keys.renew(using, [row])
        changes = {"difference": difference(before, data), "before": before}
        moved.events = record(using, [row], deed, way, **changes)
    task.refresh_from_db(using=_alias(task))
    return moved.events[task.pk]


def _raise_refusal(task: Task, moved: Moved) -> None:
    if moved.gone:
        raise Task.DoesNotExist(f"Task {task.pk} does not exist any more.")
    for error in moved.refused.values():
        raise error
