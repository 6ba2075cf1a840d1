"""What a page showed of a task, so that a button pressed later means what was seen."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Max

from tasks.models import Task, TaskEvent


def versions(tasks: Iterable[Task]) -> dict[int, str]:
    """What is to be compared, by task id; one query."""
    given = list(tasks)
    if not given:
        return {}
    events = TaskEvent.objects.using(given[0]._state.db).filter(task__in=[t.pk for t in given])
    last = dict(events.order_by().values_list("task_id").annotate(Max("pk")))
    return {
        task.pk: f"{task.state}.{task.lease}.{task.attempts}.{last.get(task.pk, 0)}"
        for task in given
    }


def last_event(task: Task) -> TaskEvent | None:
    """What was done to it last by hand."""
    # Ordered by its key alone, a planner may walk the key of the whole table from its end.
    return task.events.order_by("-at", "-pk").first()
