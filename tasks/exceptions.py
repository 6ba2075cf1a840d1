"""Everything Aftersave raises on purpose; one root, and each builds its own message."""

from datetime import datetime
from typing import Any


class AftersaveError(Exception):
    """Root of all errors of Aftersave."""


class InvalidTask(AftersaveError, ValueError):
    """A task that cannot be created as asked; nothing was written."""


class InvalidName(InvalidTask):
    """A task name that is not ``type.action`` in the allowed characters and lengths."""

    def __init__(self, name: object, why: str) -> None:
        super().__init__(
            f"{name!r} is not a task name: {why}. Write it as 'type.action', for example "
            "'email.order_confirmation'."
        )


class InvalidData(InvalidTask):
    """Task data that is not a JSON object, with the path of what is wrong."""

    def __init__(self, name: str, path: str, why: str) -> None:
        super().__init__(f"The data of task {name!r} cannot be stored: {path} {why}.")


class DataTooLarge(InvalidTask):
    """Task data above ``AFTERSAVE["DATA_LIMIT"]`` bytes of JSON."""

    def __init__(self, name: str, size: int, limit: int) -> None:
        super().__init__(
            f"The data of task {name!r} has {size:,} bytes of JSON, the limit is {limit:,}. Store "
            'the document elsewhere and pass its key, or raise AFTERSAVE["DATA_LIMIT"].'
        )


class CircularPrerequisites(InvalidTask):
    """Tasks that wait for each other and so would never run."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"These tasks wait for each other in a circle: {' → '.join(names)}. "
            "Take one of them out of after=[...]."
        )


class RecordNotSaved(InvalidTask):
    """A record without a row yet cannot own tasks."""

    def __init__(self, record: object) -> None:
        super().__init__(
            f"This {type(record).__name__} is not saved yet: save it first, then give it tasks."
        )


class RecordGone(AftersaveError):
    """The record that owns the task does not exist any more."""

    def __init__(self, task: Any) -> None:
        super().__init__(f"The record of task {task.pk} ({task.name}) was deleted.")


class DuplicateHandler(AftersaveError):
    """Two functions claim the same task name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        super().__init__(
            f"Task name {name!r} has two handlers: {first} and {second}. Rename one of them."
        )


class InvalidHandler(AftersaveError, TypeError):
    """A handler or rule that cannot work as declared."""


class TransitionRefused(AftersaveError):
    """The task is not in a state in which this can be done; nothing was changed."""

    def __init__(self, task: Any, state: str, wanted: str, allowed: str) -> None:
        self.state = state
        super().__init__(
            f"Task {task.pk} ({task.name}) is {state}: it cannot be {wanted}. "
            f"This is possible while it is {allowed}."
        )


class UniqueKeyTaken(AftersaveError):
    """Another task that can still run holds the unique key of this one."""

    def __init__(self, task: Any, other: int) -> None:
        self.other = other
        super().__init__(
            f"Task {task.pk} ({task.name}) cannot run again now: task {other} has the same unique "
            "key and is not finished yet."
        )


class ReasonMissing(AftersaveError):
    """This is done only with a reason that others can read; nothing was changed."""

    def __init__(self, wanted: str) -> None:
        super().__init__(f"Please give a reason: a task is {wanted} only with one.")


class DataRefused(InvalidTask):
    """The handler's own check refuses the changed data; nothing was changed."""

    def __init__(self, name: str, why: str) -> None:
        self.why = why
        super().__init__(f"The handler of {name!r} refuses this data: {why}")


class NothingToRestore(AftersaveError):
    """The event changed no data of this task, or it has that data already."""

    def __init__(self, task: Any, event: Any) -> None:
        super().__init__(
            f"Event {event.pk} ({event.action}) did not change the data of task {task.pk} "
            f"({task.name}), or its data is again what it was before: there is nothing to restore."
        )


class QueueCannotBePaused(AftersaveError):
    """Aftersave's own queue: what staff start there must go on when all others stand."""

    def __init__(self, queue: str) -> None:
        super().__init__(f"The queue {queue!r} does Aftersave's own work and cannot be paused.")


class QueueUnchanged(AftersaveError):
    """The queue is paused (or not paused) already; nothing was changed.

    ``paused`` says which, ``by`` and ``at`` who did it and when, as far as it is known.
    """

    def __init__(self, queue: str, *, paused: bool, by: str, at: datetime | None) -> None:
        self.paused, self.by, self.at = paused, by, at
        state = "paused" if paused else "not paused"
        who = f" ({by}, {at:%Y-%m-%d %H:%M:%S})" if at else ""
        super().__init__(f"The queue {queue!r} is {state} already{who}.")


class LeaseLost(AftersaveError):
    """The task was given to another worker; this one must not write about it any more."""

    def __init__(self, task: Any) -> None:
        super().__init__(f"Task {task.pk} ({task.name}) is not ours any more; nothing was written.")


class InvalidSetting(AftersaveError):
    """A value in ``settings.AFTERSAVE`` that cannot be used."""


class BulkRefused(AftersaveError, ValueError):
    """A bulk action that cannot be started as asked; nothing was written."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(f"No bulk action was started: {why}.")
