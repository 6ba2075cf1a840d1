"""The editor of a task's data: type, look at the difference, save. Works without JavaScript."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.utils import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _

from tasks import actions
from tasks.dashboard.buttons import CHANGE_AND_RETRY, CHANGE_DATA, may_press, named_task
from tasks.dashboard.display import state_html, state_word
from tasks.dashboard.editing import Wrong, as_typed, digest, normal, read
from tasks.dashboard.entries import changes
from tasks.dashboard.page import Page, busy_text, page_url, post, respond, say
from tasks.dashboard.pressing import NotDone, asked_task, do, done_message, moved_on
from tasks.dashboard.shown_buttons import effect_of_repeating
from tasks.dashboard.typed import LONGEST_TYPED, typed
from tasks.dashboard.versions import versions
from tasks.dashboard.viewer import Viewer
from tasks.difference import difference
from tasks.models import State, Task, TaskEvent


class EditData(Page):
    """The data of one task, to be changed."""

    name = "edit_data"
    path = "<int:task_id>/data/"
    template = "tasks/dashboard/change_data.html"
    right = "change_task_data"
    tab = "tasks"

    @cached_property
    def task(self) -> Task:
        """The task, if this person may change its data."""
        task = self.viewer.tasks.filter(pk=self.arguments["task_id"]).first()
        if task is None:
            raise Http404(_("There is no such task (any more)."))
        if not may_press(self.viewer, CHANGE_DATA, task):
            raise PermissionDenied
        return task

    @property
    def title(self) -> str:
        return _("Change the data of %(task)s") % {"task": named_task(self.task)}

    def context(self) -> dict[str, Any]:
        task = self.task
        typed = as_typed(task.data)
        return {
            "task": task,
            "state": state_html(task),
            "state_word": state_word(task),
            "fits": task.shown_state in CHANGE_DATA.states,
            "typed": typed,
            "is_too_long": typed is None,
            "has_hidden": typed is not None and "[redacted " in typed,
            "version": versions([task])[task.pk],
            "is_done": task.state == State.COMPLETED,
            "may_save": task.state != State.COMPLETED,
            "may_retry": _may_retry(self.viewer, task),
            "effect": effect_of_repeating(task) if task.state == State.COMPLETED else "",
            "longest_reason": LONGEST_TYPED,
            "task_url": page_url(self.viewer, "change", task_id=task.pk),
            "edit_url": self.url(),
            "save_url": page_url(self.viewer, "change_data", task_id=task.pk),
        }


@post("<int:task_id>/change_data/", "change_data")
def change_data(viewer: Viewer, request: HttpRequest, task_id: int) -> HttpResponse:
    """Show what would change, or save it when exactly that was shown before."""
    asked_task(viewer, CHANGE_DATA, task_id)
    page = EditData(viewer, {"task_id": task_id}, request.GET)
    return _Editing(page, request).answer()


class _Editing:
    """One POST of the editor."""

    def __init__(self, page: EditData, request: HttpRequest) -> None:
        self.page = page
        self.request = request
        self.typed = normal(request.POST.get("data", ""))
        self.reason = typed(request.POST, "reason")
        self.version = request.POST.get("version", "")
        self.step = request.POST.get("step", "preview")

    def answer(self) -> HttpResponse:
        task = self.page.task
        if self.version != versions([task])[task.pk]:
            return self._again(refused=moved_on(task, self.version))
        try:
            data = read(task.name, self.typed, task.data)
        except Wrong as wrong:
            return self._again(error=str(wrong))
        found = difference(task.data, data)
        digest_now = digest(self.typed, self.version)
        looked_at = self.request.POST.get("previewed") == digest_now
        if self.step == "preview" or not looked_at or not found:
            return self._again(
                is_preview=True,
                changes=changes(found),
                previewed=digest_now,
                changed_since=self.step != "preview" and bool(found),
            )
        if not self.reason:
            return self._again(
                is_preview=True,
                changes=changes(found),
                previewed=digest_now,
                reason_is_missing=True,
            )
        return self._save(data)

    def _save(self, data: dict[str, Any]) -> HttpResponse:
        viewer, task = self.page.viewer, self.page.task
        retry = self.step == "save_and_retry"
        button = CHANGE_AND_RETRY if retry else CHANGE_DATA
        if retry and not _may_retry(viewer, task):
            raise PermissionDenied

        def act(row: Task, reason: str) -> TaskEvent:
            return actions.change_data(row, data, by=viewer.user, reason=reason, retry=retry)

        try:
            event = do(viewer, button, task, self.reason, act, runs_again=retry)
        except NotDone as refused:
            return self._again(refused=str(refused))
        except DatabaseError as error:
            return self._again(refused=busy_text(error))
        say(self.request, messages.SUCCESS, done_message(viewer, button, task, event))
        return HttpResponseRedirect(page_url(viewer, "change", task_id=task.pk))

    def _again(self, **more: Any) -> HttpResponse:
        """The page once more, with all that was typed."""
        typed = {"typed": self.typed, "reason": self.reason, "version": self.version}
        return respond(self.page, self.request, **typed, **more)


def _may_retry(viewer: Viewer, task: Task) -> bool:
    if task.state == State.COMPLETED:
        return viewer.may("run_again", task)
    return task.state in (State.FAILED, State.CANCELLED) and viewer.may("retry", task)
