"""Reading what staff did, newest first, by key: bounded however many events there are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Q, QuerySet

from tasks.dashboard.shown_bulk import may_see
from tasks.dashboard.viewer import Viewer
from tasks.models import BulkAction, Task, TaskEvent

PAGE = 50
#: So many events are looked through at most for what somebody looks for, in steps.
STEP = 20_000
MOST_STEPS = 4
#: Of those that fit so many are read at once; some the person may not see.
_BATCH = 4 * PAGE


@dataclass(frozen=True)
class Wanted:
    """What somebody looks for; empty means everything."""

    who: str = ""
    actions: Collection[str] = ()
    queue: str = ""
    bulk: BulkAction | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return not (self.who or self.actions or self.queue)

    @property
    def rows(self) -> QuerySet[TaskEvent]:
        """All events it may be about: of one bulk action, or those that stand alone."""
        rows = TaskEvent.objects.using(Task.objects.db)
        return rows.filter(bulk=self.bulk) if self.bulk else rows.filter(bulk__isnull=True)

    @property
    def fitting(self) -> QuerySet[TaskEvent]:
        """Those that fit."""
        condition = Q()
        if self.who:
            condition &= Q(who=self.who)
        if self.actions:
            condition &= Q(action__in=list(self.actions))
        if self.queue:
            condition &= Q(queue=self.queue) | Q(task__queue=self.queue)
        return self.rows.filter(condition)


@dataclass
class Found:
    """One page, newest first. ``has_more``: in the direction that was read. ``reached``: the id to
    which was looked when the search was bounded before the page was full."""

    events: list[TaskEvent] = field(default_factory=list)
    tasks: dict[int, Task] = field(default_factory=dict)
    has_more: bool = False
    reached: int | None = None
    reached_at: datetime | None = None


def read(
    viewer: Viewer, wanted: Wanted, *, before: int | None = None, after: int | None = None
) -> Found:
    """The newest events below ``before``, or the oldest above ``after``."""
    reader = _Reader(viewer, wanted, down=after is None)
    found = reader.read(before if after is None else after)
    if after is not None:
        found.events.reverse()
    return found


class _Reader:
    def __init__(self, viewer: Viewer, wanted: Wanted, *, down: bool) -> None:
        self.viewer = viewer
        self.wanted = wanted
        self.down = down
        self.found = Found()

    def read(self, position: int | None) -> Found:
        found = self.found
        reached_at: datetime | None = None
        for _step in range(MOST_STEPS):
            edge = None if self.wanted.is_all else self._edge(position)
            rows = self._beyond(self.wanted.fitting, position)
            if edge is not None:
                rows = rows.filter(**{"pk__gte" if self.down else "pk__lte": edge[0]})
            batch = list(self._ordered(rows)[: _BATCH + 1])
            found.events += self._visible(batch[:_BATCH])
            if len(found.events) > PAGE:
                found.events = found.events[:PAGE]
                found.has_more = True
                return found
            if len(batch) > _BATCH:
                position, reached_at = batch[_BATCH - 1].pk, batch[_BATCH - 1].at
            elif edge is None:
                return found
            else:
                position, reached_at = edge
        found.reached, found.reached_at, found.has_more = position, reached_at, True
        return found

    def _edge(self, position: int | None) -> tuple[int, datetime] | None:
        """Where the next step ends; None: the rest is less than a step."""
        rows = self._ordered(self._beyond(self.wanted.rows, position)).values_list("pk", "at")
        return next(iter(rows[STEP - 1 : STEP]), None)

    def _beyond(self, rows: QuerySet[TaskEvent], position: int | None) -> QuerySet[TaskEvent]:
        if position is None:
            return rows
        return rows.filter(**{"pk__lt" if self.down else "pk__gt": position})

    def _ordered(self, rows: QuerySet[TaskEvent]) -> QuerySet[TaskEvent]:
        return (
            rows.order_by("-pk" if self.down else "pk").select_related("incident").defer("before")
        )

    def _visible(self, events: list[TaskEvent]) -> list[TaskEvent]:
        ids = {event.task_id for event in events if event.task_id}
        tasks = self.viewer.tasks.filter(pk__in=ids).defer("data", "result", "context")
        self.found.tasks |= {task.pk: task for task in tasks}
        bulks = BulkAction.objects.using(Task.objects.db).select_related("task")
        about = bulks.in_bulk({event.about_id for event in events if event.about_id})
        for event in events:
            event.about = about.get(event.about_id) if event.about_id else None
        return [event for event in events if self._may_see(event)]

    def _may_see(self, event: TaskEvent) -> bool:
        if event.task_id:
            return event.task_id in self.found.tasks
        if event.about:
            return may_see(self.viewer, event.about)
        if event.queue:
            return self.viewer.has("view_queue") or self.viewer.has("pause_queue")
        # Who sees only some tasks is not told how others fail.
        return self.viewer.has("manage_incident") and not self.viewer.is_scoped
