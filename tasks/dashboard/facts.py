"""Facts of one task, its neighbours and what its handler said."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks.dashboard.display import attempts_text, clock_html, state_html, time_html, took
from tasks.dashboard.grammar import quoted
from tasks.dashboard.numbers import number
from tasks.dashboard.page import list_url, page_url
from tasks.dashboard.viewer import Viewer
from tasks.models import LogLine, Prerequisite, State, Task, Worker
from tasks.redact import redact_text

NEWEST_LINES = 200
#: Characters of a task's log on its page; a line may have eight thousand.
MOST_SAID = 100_000
MOST_NEIGHBOURS = 100
_MOST_LINKS = 1000

_NEIGHBOUR_COLUMNS = ("id", "type", "action", "state", "due", "attempts", "queue")


@dataclass(frozen=True)
class Neighbour:
    """A task that another one waits for, or that waits for it."""

    task: Task
    url: str
    state: SafeString


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    id: int
    time: SafeString
    level: str
    is_problem: bool
    attempt: int
    text: str


@dataclass(frozen=True)
class Progress:
    """How far a handler is; ``most`` is None when it did not say of how much."""

    done: float
    most: float | None

    @property
    def text(self) -> str:
        """``3 of 5``."""
        if self.most is None:
            return _figure(self.done)
        return _("%(done)s of %(total)s") % {
            "done": _figure(self.done),
            "total": _figure(self.most),
        }


def facts(viewer: Viewer, task: Task) -> list[tuple[str, Any]]:
    """Names and values, in the order in which they are asked for."""
    found: list[tuple[str, Any]] = [
        (_("Queue"), _queue(viewer, task)),
        (_("Attempts"), attempts_text(task)),
        (_("Priority"), task.priority),
        (_("Created"), time_html(task.created_at)),
        (_planned(task), time_html(task.run_at)),
        (_("Started"), time_html(task.started_at) if task.started_at else ""),
        (_("Finished"), time_html(task.finished_at) if task.finished_at else ""),
        (_("Took"), took(task.started_at, task.finished_at)),
        (_("Worker"), _worker(task)),
        (_("Time limit (not enforced yet)"), _seconds(task.timeout)),
        (_("Idempotency key"), format_html("<code>{}</code>", task.idempotency_key)),
    ]
    return [(name, value) for name, value in found if value != ""]


def neighbours(viewer: Viewer, task: Task) -> tuple[list[Neighbour], list[Neighbour]]:
    """What ``task`` runs after, and what waits for it; only what this person may know of."""
    before = _linked(viewer, dependents__task=task)
    after = _linked(viewer, prerequisites__prerequisite=task) if task.has_dependents else []
    return before, after


def waiting_for(viewer: Viewer, tasks: Iterable[Task]) -> dict[int, list[Neighbour]]:
    """What waits for each of ``tasks``, by its id: ``MOST_NEIGHBOURS`` of it; two queries."""
    parents = [task.pk for task in tasks if task.has_dependents]
    found: dict[int, list[Neighbour]] = defaultdict(list)
    if not parents:
        return found
    links = Prerequisite.objects.filter(prerequisite__in=parents)
    pairs = list(links.values_list("prerequisite_id", "task_id")[:_MOST_LINKS])
    # Apart, by key: joined, PostgreSQL may go through all tasks that wait for anything.
    waiting = viewer.tasks.filter(state=State.WAITING).only(*_NEIGHBOUR_COLUMNS)
    seen = waiting.in_bulk({child for _parent, child in pairs})
    for parent, child in [pair for pair in sorted(pairs) if pair[1] in seen][:MOST_NEIGHBOURS]:
        found[parent].append(_neighbour(viewer, seen[child]))
    return found


def log_lines(task: Task) -> tuple[list[Line], bool]:
    """The newest lines, oldest first, and whether older ones are left out."""
    lines = LogLine.objects.using(task._state.db).filter(task=task).order_by("-pk")
    rows = list(lines[: NEWEST_LINES + 1])
    shown: list[Line] = []
    said = 0
    for row in rows[:NEWEST_LINES]:
        said += len(row.text)
        if said > MOST_SAID:
            break
        shown.append(_line(row))
    return shown[::-1], len(shown) < len(rows)


def progress(task: Task) -> Progress | None:
    """What the handler said last about how far it is, or None."""
    value = task.progress_value
    if not isinstance(value, dict) or not _is_number(value.get("done")):
        return None
    total: Any = value.get("total")
    return Progress(value["done"], total if _is_number(total) and total > 0 else None)


def _figure(value: float) -> str:
    return number(value, 0 if value == int(value) else 2)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _queue(viewer: Viewer, task: Task) -> SafeString:
    url = list_url(viewer, f"queue:{quoted(task.queue)}")
    return format_html('<a href="{}">{}</a>', url, task.queue)


def _planned(task: Task) -> str:
    return _("Runs at") if task.state == State.SCHEDULED else _("Planned for")


def _seconds(seconds: float | None) -> str:
    return _("%(seconds)g s") % {"seconds": seconds} if seconds else ""


def _worker(task: Task) -> str:
    if task.state != State.RUNNING:
        return ""
    worker = Worker.objects.using(task._state.db).filter(pk=task.worker_id or 0).first()
    return str(worker) if worker else _("a worker that is gone")


def _linked(viewer: Viewer, **link: Task) -> list[Neighbour]:
    rows = viewer.tasks.filter(**link).only(*_NEIGHBOUR_COLUMNS).order_by("pk")
    return [_neighbour(viewer, row) for row in rows[:MOST_NEIGHBOURS]]


def _neighbour(viewer: Viewer, task: Task) -> Neighbour:
    return Neighbour(task, page_url(viewer, "change", task_id=task.pk), state_html(task))


def _line(row: LogLine) -> Line:
    return Line(
        id=row.pk,
        time=clock_html(row.at),
        level=logging.getLevelName(row.level),
        is_problem=row.level >= logging.WARNING,
        attempt=row.attempt,
        text=redact_text(row.text),
    )
