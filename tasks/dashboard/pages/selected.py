"""The buttons for ticked rows: what answers when one is pressed."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.contrib import messages
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks import actions
from tasks.actions import Outcome, name_of
from tasks.dashboard.buttons import BUTTONS, FOR_MANY, Button, may_press, reason_name, skipped_text
from tasks.dashboard.ids import read_id
from tasks.dashboard.log import log
from tasks.dashboard.page import back, page_url, post, say
from tasks.dashboard.typed import typed
from tasks.dashboard.viewer import RIGHTS, Viewer
from tasks.models import Task, TaskEvent

MOST_SELECTED = 500


@post("selected/<slug:action>/", "selected")
def selected(viewer: Viewer, request: HttpRequest, action: str) -> HttpResponse:
    """Do it to the ticked rows it fits, and say how many were left alone and why.

    ``?undo=1,2`` in the address: to those of these that the same person did last what it undoes.
    """
    button = BUTTONS.get(action)
    if button not in FOR_MANY:
        raise Http404
    if not viewer.has(RIGHTS[action]):
        raise PermissionDenied
    reason = typed(request.POST, reason_name(action, "selected"))
    if "undo" in request.GET:
        ids = _done_by(viewer, button, _ids(request.GET["undo"].split(",")))
        reason = reason or (_("Taken back.") if button.needs_reason else "")
    else:
        ids = _ids(request.POST.getlist("ticked"))
    if not ids:
        say(request, messages.WARNING, _nothing(request))
    elif button.needs_reason and not reason:
        text = _("Nothing was done: please give a reason, others will read it. (%(label)s)")
        say(request, messages.WARNING, text % {"label": button.label})
    else:
        outcome = _do(viewer, button, ids, reason)
        level = messages.SUCCESS if outcome.done else messages.WARNING
        say(request, level, _summary(viewer, button, outcome))
    return back(viewer, request, page_url(viewer, "changelist"))


def _ids(given: Collection[str]) -> set[int]:
    ids = {read_id(one) for one in given}
    known = {one for one in ids if one is not None}
    if len(given) > MOST_SELECTED or len(known) < len(ids):
        raise SuspiciousOperation("These are no ids of tasks.")
    return known


def _done_by(viewer: Viewer, button: Button, ids: set[int]) -> set[int]:
    """Those of the tasks to which this person did last what ``button`` takes back."""
    events = TaskEvent.objects.using(router.db_for_write(Task)).filter(task__in=ids)
    last: dict[int | None, tuple[str, str]] = {}
    for task_id, action, who in events.order_by("pk").values_list("task_id", "action", "who"):
        last[task_id] = (action, who)
    undone = {name for name, other in BUTTONS.items() if other.back == button.name}
    me = name_of(viewer.user)
    return {pk for pk in ids if pk in last and last[pk][0] in undone and last[pk][1] == me}


def _nothing(request: HttpRequest) -> str:
    if "undo" in request.GET:
        return _("Nothing was done: all of them have moved on since.")
    return _("Nothing was done: please tick some tasks first.")


def _do(viewer: Viewer, button: Button, ids: set[int], reason: str) -> Outcome:
    using = router.db_for_write(Task)
    visible = viewer.tasks.using(using).filter(pk__in=ids).defer("data", "result")
    rows = {task.pk: task for task in visible}
    allowed = {pk for pk, task in rows.items() if may_press(viewer, button, task)}
    with transaction.atomic(using=using):
        outcome = actions.many(using, allowed, button.name, by=viewer.user, reason=reason)
        done = str(button.done).capitalize()
        text = f"{done}: {reason}" if reason else f"{done}."
        log(viewer, [rows[pk] for pk in sorted(outcome.done)], text)
    skipped = dict(outcome.skipped)
    if len(rows) > len(allowed):
        skipped["forbidden"] = len(rows) - len(allowed)
    # Who may not know of a task hears of it what they would hear of one that is deleted.
    gone = len(ids) - len(rows) + skipped.pop("gone", 0)
    return Outcome(outcome.done, {**skipped, "gone": gone} if gone else skipped)


def _summary(viewer: Viewer, button: Button, outcome: Outcome) -> SafeString:
    """``3 retried, 1 skipped: 1 is running.``, where to read about it, and the way back."""
    text = _("%(count)d %(done)s") % {"count": len(outcome.done), "done": button.done}
    if outcome.skipped:
        text += ", " + _("%(count)d skipped: %(why)s") % {
            "count": sum(outcome.skipped.values()),
            "why": skipped_text(outcome.skipped),
        }
    if not outcome.done:
        return format_html("{}.", text)
    activity = format_html(
        '<a href="{}">{}</a>', page_url(viewer, "activity"), _("Show the activity")
    )
    return format_html("{}. {} {}", text, activity, _way_back(viewer, button, outcome.done))


def _way_back(viewer: Viewer, button: Button, ids: Iterable[int]) -> SafeString:
    undo = BUTTONS.get(button.back)
    if undo is None or not viewer.has(RIGHTS[undo.name]):
        return SafeString("")
    return format_html(
        '<button form="af-form" formaction="{}?undo={}" class="af-button">{}</button>',
        page_url(viewer, "selected", action=undo.name),
        ",".join(map(str, sorted(ids))),
        undo.label,
    )
