"""The table at the end of a check."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from statistics import median

from orders.models import Order
from tasks.models import Task

HEADS = ("task", "tasks", "completed", "of them retried", "later", "attempts", "median s")


def table(orders: Iterable[Order], *, retried: Collection[Task]) -> str:
    """One row for each task name; seconds from creation to completion, not of those retried."""
    by_name: dict[str, list[Task]] = defaultdict(list)
    for order in orders:
        for task in order.tasks.all():
            by_name[task.name].append(task)
    again = {task.pk for task in retried}
    rows = [HEADS, *(_row(name, tasks, again) for name, tasks in sorted(by_name.items()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    return "\n".join(_line(row, widths) for row in rows) + (
        "\n\nLater: their time has not come, and that is how it should be."
    )


def _row(name: str, tasks: list[Task], again: set[int]) -> tuple[str, ...]:
    completed = [task for task in tasks if task.state == Task.State.COMPLETED]
    at_once = [task for task in completed if task.pk not in again]
    numbers = (
        len(tasks),
        len(completed),
        len(completed) - len(at_once),
        sum(task.shown_state == "later" for task in tasks),
        sum(task.attempts for task in tasks),
    )
    return (name, *map(str, numbers), _median_seconds(at_once))


def _median_seconds(tasks: list[Task]) -> str:
    seconds = [
        (task.finished_at - task.created_at).total_seconds() for task in tasks if task.finished_at
    ]
    return f"{median(seconds):.3f}" if seconds else "-"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    first, *numbers = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *numbers])
