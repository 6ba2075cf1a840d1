"""Tasks that fail the way a worker writes it, for the tests of incidents and alerts."""

from typing import Any

from tasks import enqueue
from tasks.models import Failure, Incident, State, Task
from tasks.settle import Ending, settle
from tests.tasks.tools import WORKER, ending, start


def failing(task: Task, fingerprint: str = "f1", *, message: str = "it broke") -> Ending:
    """The end of the attempt at a running task."""
    failure = Failure(
        task=task,
        attempt=task.attempts,
        worker_id=WORKER,
        exception="shop.MailboxFull",
        message=message,
        fingerprint=fingerprint,
    )
    return ending(task, State.FAILED, fingerprint=fingerprint, failure=failure, reason=message)


def fail(task: Task | str = "shop.do", fingerprint: str = "f1", **more: Any) -> Task:
    """A task, new or due again, that came to the state failed."""
    task = start(enqueue(task) if isinstance(task, str) else task)
    assert settle("default", WORKER, [failing(task, fingerprint, **more)]) == {task.pk}
    task.refresh_from_db()
    return task


def complete(task: Task) -> None:
    """A due task is done by a worker."""
    start(task)
    assert settle("default", WORKER, [ending(task)]) == {task.pk}


def incident(fingerprint: str = "f1") -> Incident:
    return Incident.objects.get(fingerprint=fingerprint)
