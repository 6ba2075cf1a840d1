"""What the page of one task shows, and to whom."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin import AdminSite
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from tasks.admin.buttons import BUTTONS, LONGEST_REASON, Button, version
from tasks.admin.display import (
    attempts_text,
    exact,
    pretty,
    relative,
    shown_text,
    state_html,
    time_html,
    when_html,
)
from tasks.admin.records import shown_records
from tasks.admin.selected import consequence
from tasks.admin.why import why
from tasks.models import Failure, State, Task, Worker
from tasks.redact import redact_text

NEWEST_LOG_LINES = 200
NEWEST_FAILURES = 50
MOST_LINKED = 100

_LINKED_COLUMNS = ("id", "type", "action", "state", "due", "attempts", "queue")


@dataclass(frozen=True)
class ShownButton:
    """A button this person may press now."""

    button: Button
    url: str
    consequence: str


def task_url(site: AdminSite, task_id: int, page: str = "change") -> str:
    """The address of a task's page, or of one of its buttons."""
    return reverse(f"admin:tasks_task_{page}", args=[task_id], current_app=site.name)


def task_page(request: HttpRequest, site: AdminSite, task: Task) -> dict[str, Any]:
    """The template's context for ``task``."""
    may_see_data = request.user.has_perm("tasks.view_task_data")
    record = shown_records(request, site, [task]).get(task.pk)
    context: dict[str, Any] = {
        "task": task,
        "state": state_html(task),
        "when": when_html(task),
        "record": record,
        "why": redact_text(why(task)),
        "facts": _facts(task),
        "buttons": list(_buttons(request, site, task)),
        "version": version(task),
        "longest_reason": LONGEST_REASON,
        "prerequisites": _linked(site, _neighbours(task, dependents__task=task)),
        "dependents": _linked(site, _neighbours(task, prerequisites__prerequisite=task)),
        "events": [_event(event) for event in task.events.order_by("-pk")[:100]],
        "failures": [_failure(failure, may_see_data) for failure in _newest_failures(task)],
        "may_see_data": may_see_data,
    }
    return context | _data(task) if may_see_data else context


def _buttons(request: HttpRequest, site: AdminSite, task: Task) -> Any:
    for button in BUTTONS.values():
        if task.state in button.states and request.user.has_perm(button.permission):
            url = task_url(site, task.pk, button.name)
            yield ShownButton(button, url, consequence(button, [task]))


def _facts(task: Task) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        (_("Queue"), task.queue),
        (_("Attempts"), attempts_text(task)),
        (_("Priority"), task.priority),
        (_("Created"), _moment(task.created_at)),
        (_("Runs at") if task.state == State.SCHEDULED else _("Planned for"), _moment(task.run_at)),
    ]
    if task.started_at:
        facts.append((_("Started"), _moment(task.started_at)))
    if task.finished_at:
        facts.append((_("Finished"), _moment(task.finished_at)))
    if task.started_at and task.finished_at:
        facts.append((_("Took"), _took(task.started_at, task.finished_at)))
    if task.state == State.RUNNING:
        facts.append((_("Worker"), _worker(task)))
    if task.timeout:
        facts.append(
            (_("Time limit (not enforced yet)"), _("%(seconds)g s") % {"seconds": task.timeout})
        )
    progress = _progress(task)
    if progress:
        facts.append((_("Progress"), progress))
    facts.append((_("Idempotency key"), format_html("<code>{}</code>", task.idempotency_key)))
    return facts


def _moment(moment: datetime) -> Any:
    return format_html(
        '{} <span class="af-quiet">{}</span>', time_html(moment, exact(moment)), relative(moment)
    )


def _took(start: datetime, end: datetime) -> str:
    return _("%(seconds).2f s") % {"seconds": max(0.0, (end - start).total_seconds())}


def _worker(task: Task) -> str:
    worker = Worker.objects.using(task._state.db).filter(pk=task.worker_id or 0).first()
    return str(worker) if worker else _("a worker that is gone")


def _progress(task: Task) -> str:
    value = task.progress_value
    if not isinstance(value, dict) or "done" not in value:
        return ""
    if not value.get("total"):
        return str(value["done"])
    return _("%(done)s of %(total)s") % {"done": value["done"], "total": value["total"]}


def _neighbours(task: Task, **link: Task) -> list[Task]:
    rows = Task.objects.using(task._state.db).filter(**link)
    return list(rows.only(*_LINKED_COLUMNS).order_by("pk")[:MOST_LINKED])


def _linked(site: AdminSite, tasks: list[Task]) -> list[dict[str, Any]]:
    return [
        {"task": task, "url": task_url(site, task.pk), "state": state_html(task)} for task in tasks
    ]


def _event(event: Any) -> dict[str, Any]:
    known = BUTTONS.get(event.action)
    return {
        "who": event.who or _("A program"),
        "done": known.done if known else event.action,
        "time": time_html(event.at),
        "reason": redact_text(event.reason),
    }


def _newest_failures(task: Task) -> list[Failure]:
    return list(task.failures.order_by("-pk")[:NEWEST_FAILURES])


def _failure(failure: Failure, may_see_data: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": failure.pk,
        "attempt": failure.attempt,
        "time": time_html(failure.at),
        "exception": failure.exception,
        "took": _took(failure.started_at, failure.at) if failure.started_at else "",
    }
    if may_see_data:
        shown["message"] = shown_text(failure.message)
        shown["traceback"] = shown_text(failure.traceback)
    return shown


def _data(task: Task) -> dict[str, Any]:
    lines = list(task.log_lines.order_by("-pk")[: NEWEST_LOG_LINES + 1])
    return {
        "data": pretty(task.data) if task.data else "",
        "result": pretty(task.result) if task.result is not None else "",
        "task_context": pretty(task.context) if task.context else "",
        "log": [_log_line(line) for line in reversed(lines[:NEWEST_LOG_LINES])],
        "log_is_cut": len(lines) > NEWEST_LOG_LINES,
        "newest_log_lines": NEWEST_LOG_LINES,
    }


def _log_line(line: Any) -> dict[str, Any]:
    return {
        "time": time_html(line.at, f"{line.at:%H:%M:%S}"),
        "level": logging.getLevelName(line.level),
        "is_problem": line.level >= logging.WARNING,
        "attempt": line.attempt,
        "text": redact_text(line.text),
    }
