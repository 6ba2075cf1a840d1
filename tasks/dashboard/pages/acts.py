"""The buttons of a task: what answers when one is pressed."""

from __future__ import annotations

from functools import partial

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from tasks import actions
from tasks.dashboard.buttons import FOR_MANY, RESTORE
from tasks.dashboard.ids import read_id
from tasks.dashboard.page import back, page_url, post, say
from tasks.dashboard.pressing import NotDone, asked_task, do, done_message, given_reason, press
from tasks.dashboard.viewer import Viewer
from tasks.exceptions import NothingToRestore
from tasks.models import Task, TaskEvent

for _button in FOR_MANY:
    post(f"<int:task_id>/{_button.name}/", _button.name)(partial(press, name=_button.name))


@post("<int:task_id>/restore/", "restore")
def restore(viewer: Viewer, request: HttpRequest, task_id: int) -> HttpResponse:
    """Bring back the data from before the event that the address names."""
    task = asked_task(viewer, RESTORE, task_id)
    key = read_id(request.GET.get("event", ""))
    old = None if key is None else task.events.filter(pk=key).first()
    if old is None:
        raise Http404(_("There is no such change of this task (any more)."))

    def act(row: Task, reason: str) -> TaskEvent:
        return actions.restore(row, old, by=viewer.user, reason=reason)

    try:
        event = do(viewer, RESTORE, task, given_reason(viewer, request, RESTORE, task), act)
    except NothingToRestore:
        text = _(
            "There is nothing to restore: this changed no data, or the task has the old data again."
        )
        say(request, messages.WARNING, text)
    except NotDone as refused:
        say(request, messages.WARNING, str(refused))
    else:
        say(request, messages.SUCCESS, done_message(viewer, RESTORE, task, event))
    return back(viewer, request, page_url(viewer, "change", task_id=task_id))
