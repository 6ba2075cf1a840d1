"""Queues as the overview shows them: what is due, since when, who serves them, who paused them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connections, router
from django.utils import timezone
from django.utils.safestring import SafeString

from tasks.causes import longest_due
from tasks.dashboard import probes
from tasks.dashboard.display import time_html
from tasks.dashboard.fleet import Running
from tasks.dashboard.viewer import Viewer
from tasks.handlers import registry
from tasks.models import Queue, Task
from tasks.models.due import LEVELS_SQL
from tasks.serving import Serving, worker_command

#: So many queues stand on the page; those with due work come first when there are more.
MOST_QUEUES = 100
#: Read at the head of each queue and priority: the oldest due task, and names nobody handles.
_HEAD = 20
_MOST_LEVELS = 400

_LEVELS = f"""
WITH RECURSIVE {LEVELS_SQL}
SELECT queue, priority FROM level WHERE priority IS NOT NULL LIMIT %s
"""


@dataclass(slots=True)
class Lane:
    """One queue. ``due`` above ``probes.MOST_COUNTED`` means "more than that"."""

    name: str
    row: Queue | None
    due: int = 0
    oldest: Task | None = None
    running: int = 0
    running_is_exact: bool = True
    served: bool = True
    is_late: bool = False
    names: set[str] = field(default_factory=set)  # of the tasks at its head

    @property
    def paused(self) -> bool:
        """Whether somebody paused it."""
        return self.row is not None and self.row.paused_at is not None

    @property
    def is_deserted(self) -> bool:
        """Whether work is due and no live worker would take it."""
        return bool(self.due) and not self.served and not self.paused

    @property
    def command(self) -> str:
        """What starts a worker that serves it."""
        return worker_command(self.name, router.db_for_write(Task))

    @property
    def oldest_html(self) -> SafeString:
        """Since when its oldest due task could have run."""
        return time_html(self.oldest.run_at if self.oldest else None)


def lanes(viewer: Viewer, serving: Serving, running: Running) -> list[Lane]:
    """The queues that workers know or that have due work, by name; at most ``MOST_QUEUES``."""
    levels = _levels(viewer.tasks.db)
    found = _named(levels)
    _count(viewer, found, {queue for queue, _ in levels})
    _read_heads(viewer, found, levels)
    now = timezone.now()
    for lane in found:
        lane.running = running.by_queue[lane.name]
        lane.running_is_exact = running.is_exact
        lane.served = serving.serves(lane.name)
        lane.is_late = _is_late(lane, now)
    return found


def unhandled(found: Iterable[Lane]) -> list[str]:
    """Names at the heads of these queues that have no handler in this process."""
    names = {name for lane in found for name in lane.names}
    return sorted(name for name in names if registry.get(name) is None)


def _levels(using: str) -> list[tuple[str, int]]:
    if not connections[using].features.supports_partial_indexes:
        due = Task.objects.using(using).due().values_list("queue", "priority")
        return list(due.distinct().order_by("queue", "-priority")[:_MOST_LEVELS])
    with connections[using].cursor() as cursor:
        cursor.execute(_LEVELS, [_MOST_LEVELS])
        return list(cursor.fetchall())


def _named(levels: Sequence[tuple[str, int]]) -> list[Lane]:
    due = list(dict.fromkeys(queue for queue, _ in levels))[:MOST_QUEUES]
    # Those with due work wherever they stand: they may be paused.
    rows = {row.name: row for row in Queue.objects.filter(name__in=due)}
    rows |= {row.name: row for row in Queue.objects.order_by("name")[:MOST_QUEUES]}
    wanted = list(dict.fromkeys([*due, *sorted(rows)]))[:MOST_QUEUES]
    return [Lane(name, rows.get(name)) for name in sorted(wanted)]


def _count(viewer: Viewer, found: list[Lane], with_work: set[str]) -> None:
    asked = [lane for lane in found if lane.name in with_work]
    order = ("-priority", "run_at", "id")
    questions = [viewer.tasks.due().filter(queue=lane.name).order_by(*order) for lane in asked]
    for lane, number in zip(asked, probes.counts(questions), strict=True):
        lane.due = number


def _read_heads(viewer: Viewer, found: list[Lane], levels: Sequence[tuple[str, int]]) -> None:
    by_name = {lane.name: lane for lane in found}
    heads = [
        viewer.tasks.due().filter(queue=queue, priority=priority).order_by("run_at", "id")[:_HEAD]
        for queue, priority in levels
        if queue in by_name
    ]
    keys = [key for head in probes.ids(heads) for key in head]
    columns = ("type", "action", "queue", "run_at")
    for task in Task.objects.using(viewer.tasks.db).filter(pk__in=keys).only(*columns):
        lane = by_name.get(task.queue)
        if lane is None:
            continue
        lane.names.add(task.name)
        if lane.oldest is None or task.run_at < lane.oldest.run_at:
            lane.oldest = task


def _is_late(lane: Lane, now: datetime) -> bool:
    limit = longest_due(lane.name)
    if lane.oldest is None or limit is None or lane.paused:
        return False
    return now - lane.oldest.run_at > timedelta(seconds=limit)
