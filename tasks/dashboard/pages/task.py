"""The page of one task: what happened to it, why it does not run, and what helps."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from itertools import chain
from typing import Any

from django.http import Http404
from django.utils.translation import gettext as _

from tasks.dashboard.carried import carried
from tasks.dashboard.display import state_html, when_html
from tasks.dashboard.entries import Story
from tasks.dashboard.facts import Neighbour, facts, log_lines, neighbours, progress
from tasks.dashboard.page import Page
from tasks.dashboard.records import shown_records
from tasks.dashboard.shown_buttons import restore_button, shown_buttons
from tasks.dashboard.shown_why import ShownWhy, shown_whys
from tasks.dashboard.story import tell
from tasks.dashboard.ticket import ticket
from tasks.dashboard.versions import versions
from tasks.models import State, Task

#: What needs somebody stands out.
_WHY_LOOKS = {
    "failed": "af-alert",
    "paused": "af-warn",
    "unknown_name": "af-warn",
    "no_worker": "af-warn",
}


class TaskPage(Page):
    """A task, whole. Out of the person's scope it does not exist."""

    name = "change"
    path = "<int:task_id>/change/"
    template = "tasks/dashboard/task.html"
    parts = {
        "af-task-state": "tasks/dashboard/task/state.html",
        "af-task-head": "tasks/dashboard/task/head.html",
        "af-task-progress": "tasks/dashboard/task/progress.html",
        "af-task-story": "tasks/dashboard/task/story.html",
        "af-task-log": "tasks/dashboard/task/log.html",
        "af-task-data": "tasks/dashboard/task/data.html",
        "af-task-links": "tasks/dashboard/task/links.html",
        "af-task-facts": "tasks/dashboard/task/facts.html",
        "af-task-ticket": "tasks/dashboard/task/ticket.html",
    }
    tab = "tasks"

    @property
    def title(self) -> str:
        return f"{self.task.title} #{self.task.pk}"

    @cached_property
    def task(self) -> Task:
        """The task, without what it carries. Raises Http404."""
        # A number that no row can have is an error of some databases, not an empty answer.
        wanted = self.arguments["task_id"]
        rows = self.viewer.tasks.filter(pk=wanted) if wanted < 2**63 else self.viewer.tasks.none()
        task = rows.defer("data", "result").first()
        if task is None:
            raise Http404(_("There is no task #%(id)s (any more).") % {"id": wanted})
        return task

    @cached_property
    def neighbours(self) -> tuple[list[Neighbour], list[Neighbour]]:
        """What the task runs after, and what waits for it."""
        return neighbours(self.viewer, self.task)

    def queues(self) -> Collection[str] | None:
        return {self.task.queue, *(linked.task.queue for linked in chain(*self.neighbours))}

    def context(self) -> dict[str, Any]:
        for name in ("task", "neighbours"):
            self.__dict__.pop(name, None)
        viewer, task = self.viewer, self.task
        record = shown_records(viewer, [task]).get(task.pk)
        why = shown_whys(viewer, [task])[task.pk]
        before, after = self.neighbours
        story = tell(viewer, [task], tracebacks=True)
        context: dict[str, Any] = {
            "task": task,
            "state": state_html(task),
            "when": when_html(task),
            "record": record,
            "why": why,
            "why_look": _WHY_LOOKS.get(why.kind) or _stands_in_the_way(why),
            "buttons": shown_buttons(viewer, [task])[task.pk],
            "progress": progress(task) if task.state == State.RUNNING else None,
            "story": story,
            "restores": self._restores(story),
            "prerequisites": before,
            "dependents": after,
            "facts": facts(viewer, task),
            "ticket": ticket(
                self.url(),
                [task],
                {task.pk: why},
                story,
                title=self.title,
                line=record.text if record else "",
            ),
        }
        return context | self._carried() if viewer.sees_data else context

    def _restores(self, story: Story) -> dict[int, Any]:
        """The buttons that bring back old data, by the event that replaced it."""
        told = (entry.event for entry in story.entries)
        events = [event for event in told if event and event.before is not None]
        if not events:
            return {}
        version = versions([self.task])[self.task.pk]
        return {
            event.pk: restore_button(self.viewer, self.task, event, version) for event in events
        }

    def _carried(self) -> dict[str, Any]:
        lines, is_cut = log_lines(self.task)
        return {
            "carried": carried(self.task),
            "log": lines,
            "log_is_cut": is_cut,
        }


def _stands_in_the_way(why: ShownWhy) -> str:
    """How that is shown: of what comes later or runs, too, something may have to be mended."""
    return "af-warn" if why.command or why.buttons else ""
