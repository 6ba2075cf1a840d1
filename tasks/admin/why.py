"""Why a task does not run now, in one sentence."""

from __future__ import annotations

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks.admin.display import attempts_text, exact
from tasks.handlers import registry
from tasks.models import Queue, State, Task, Worker


def why(task: Task) -> str:
    """One sentence on what the task is waiting for or how it ended."""
    if task.state == State.WAITING:
        return _waiting(task)
    if task.state == State.SCHEDULED:
        return _scheduled(task)
    if task.state == State.RUNNING:
        return _("A worker is performing it.")
    return task.reason


def _waiting(task: Task) -> str:
    open_ones = task.prerequisites.exclude(prerequisite__state=State.COMPLETED)
    ids = list(open_ones.order_by("prerequisite_id").values_list("prerequisite_id", flat=True)[:4])
    names = ", ".join(f"#{pk}" for pk in ids[:3]) + (" …" if len(ids) > 3 else "")
    text = ngettext("It waits for %(names)s.", "It waits for %(names)s.", len(ids))
    return text % {"names": names}


def _scheduled(task: Task) -> str:
    obstacle = _obstacle(task)
    if task.due:
        return obstacle or _("Its time has come: the next free worker takes it.")
    values = {"attempts": attempts_text(task), "time": exact(task.run_at), "reason": task.reason}
    if not task.attempts:
        text = _("It runs at %(time)s.")
    elif task.reason:
        text = _("%(attempts)s attempts are used, the next one is at %(time)s: %(reason)s")
    else:
        text = _("%(attempts)s attempts are used, the next one is at %(time)s.")
    return f"{text % values} {obstacle}".strip()


def _obstacle(task: Task) -> str:
    using = task._state.db
    queue = Queue.objects.using(using).filter(pk=task.queue).first()
    if queue is not None and queue.paused_at:
        return _("The queue %(queue)s is paused.") % {"queue": task.queue}
    if registry.get(task.name) is None:
        return _("No handler of the name %(name)s is known here.") % {"name": task.name}
    served = Worker.objects.using(using).alive().values_list("queues", flat=True)
    if not any(not queues or task.queue in queues for queues in served):
        return _("No live worker serves the queue %(queue)s.") % {"queue": task.queue}
    return ""
