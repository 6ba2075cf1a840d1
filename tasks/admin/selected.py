"""Buttons for the ticked rows of the list."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks.admin.buttons import LONGEST_REASON, Button, NotDone, press
from tasks.admin.display import state_html
from tasks.models import Prerequisite, State, Task

if TYPE_CHECKING:
    from tasks.admin.task_admin import TaskAdminMixin

MOST_SELECTED = 500


def check_posted_action(admin: TaskAdminMixin, request: HttpRequest) -> None:
    """Refuse an action this person has no right to, and ids that are none."""
    if request.method != "POST":
        return
    allowed = set(admin.get_actions(request)) | {""}
    if not allowed.issuperset(request.POST.getlist("action")):
        raise PermissionDenied
    ticked = request.POST.getlist(ACTION_CHECKBOX_NAME)
    if len(ticked) > MOST_SELECTED or not all(key.isdecimal() and len(key) < 20 for key in ticked):
        raise SuspiciousOperation("These are no ids of tasks.")


def press_for_selected(
    admin: TaskAdminMixin, request: HttpRequest, button: Button
) -> HttpResponse | None:
    """Do it to the ticked rows it fits; asks for the reason first where one is required."""
    tasks = _ticked(admin, request)
    fitting = [task for task in tasks if task.state in button.states]
    reason = request.POST.get("reason", "").strip()[:LONGEST_REASON]
    if fitting and button.needs_reason and not reason:
        return _ask(admin, request, button, fitting, len(tasks) - len(fitting))
    done, skipped = _press_each(admin, request, button, tasks, reason)
    level = messages.SUCCESS if done else messages.WARNING
    admin.message_user(request, _summary(button, done, skipped), level)
    return None


def _ticked(admin: TaskAdminMixin, request: HttpRequest) -> list[Task]:
    # Not the filtered list: a row that moved on meanwhile is counted as skipped, not forgotten.
    rows = admin.get_queryset(request).filter(pk__in=request.POST.getlist(ACTION_CHECKBOX_NAME))
    return list(rows.order_by("pk").defer("data", "result"))


def _press_each(
    admin: TaskAdminMixin, request: HttpRequest, button: Button, tasks: list[Task], reason: str
) -> tuple[int, Counter[str]]:
    done = 0
    skipped: Counter[str] = Counter()
    for task in tasks:
        try:
            press(button, task, by=request.user, reason=reason, log=admin.logger(request))
        except NotDone as refused:
            skipped[refused.why] += 1
        else:
            done += 1
    return done, skipped


def _summary(button: Button, done: int, skipped: Counter[str]) -> str:
    """``3 retried, 2 skipped: running``."""
    text = _("%(count)d %(done)s") % {"count": done, "done": button.done}
    if skipped:
        text += ", " + _("%(count)d skipped: %(why)s") % {
            "count": skipped.total(),
            "why": ", ".join(sorted(skipped)),
        }
    return f"{text}."


def _ask(
    admin: TaskAdminMixin,
    request: HttpRequest,
    button: Button,
    tasks: list[Task],
    others: int,
) -> TemplateResponse:
    context: dict[str, Any] = {
        **admin.admin_site.each_context(request),
        "opts": admin.opts,
        "media": admin.media,
        "title": button.selected,
        "button": button,
        "rows": [(task, state_html(task)) for task in tasks],
        "ticked": request.POST.getlist(ACTION_CHECKBOX_NAME),
        "back_url": request.get_full_path(),
        "others": others,
        "consequence": consequence(button, tasks),
        "reason_missing": "reason" in request.POST,
        "longest_reason": LONGEST_REASON,
        "checkbox_name": ACTION_CHECKBOX_NAME,
        "action": f"{button.name}_selected",
    }
    request.current_app = admin.admin_site.name
    return TemplateResponse(request, "tasks/admin/confirm.html", context)


def consequence(button: Button, tasks: list[Task]) -> str:
    """What pressing means for tasks that wait for these; empty when none does."""
    if button.name == "retry" or not tasks:
        return ""
    links = Prerequisite.objects.using(tasks[0]._state.db).filter(
        prerequisite__in=[task.pk for task in tasks], task__state=State.WAITING
    )
    count = len(set(links.values_list("task_id", flat=True)))
    if not count:
        return ""
    if button.name == "cancel":
        text = ngettext(
            "%(count)d task waits for this and is cancelled too, with all that wait for it.",
            "%(count)d tasks wait for this and are cancelled too, with all that wait for them.",
            count,
        )
    else:
        text = ngettext(
            "%(count)d task waits for this and goes on.",
            "%(count)d tasks wait for this and go on.",
            count,
        )
    return text % {"count": count}
