"""The buttons for ticked rows: what answers when one is pressed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

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
from tasks.dashboard.versions import versions
from tasks.dashboard.viewer import RIGHTS, Viewer
from tasks.models import Task, TaskEvent
from tasks.transitions import lock

MOST_SELECTED = 500


@post("selected/<slug:action>/", "selected")
def selected(viewer: Viewer, request: HttpRequest, action: str) -> HttpResponse:
    """Do it to the ticked rows that are as they were seen, and say which were left alone and why.

    ``?undo=1,2`` in the address: to those of these that the same person did last what it undoes.
    """
    button = BUTTONS.get(action)
    if button not in FOR_MANY:
        raise Http404
    if not viewer.has(RIGHTS[action]):
        raise PermissionDenied
    reason = typed(request.POST, reason_name(action, "selected"))
    undo = request.GET.get("undo")
    if undo is None:
        seen = _ticked(request)
    else:
        seen = dict.fromkeys(_ids(undo.split(",")), "")
        reason = reason or (_("Taken back.") if button.needs_reason else "")
    if not seen:
        say(request, messages.WARNING, _("Nothing was done: please tick some tasks first."))
    elif button.needs_reason and not reason:
        text = _("Nothing was done: please give a reason, others will read it. (%(label)s)")
        say(request, messages.WARNING, text % {"label": button.label})
    else:
        outcome, names = _do(viewer, button, seen, reason, takes_back=undo is not None)
        said: str = _summary(viewer, button, outcome, names)
        if undo is not None and not outcome.done:
            said = _("Nothing was done: all of them have moved on since.")
        say(request, messages.SUCCESS if outcome.done else messages.WARNING, said)
    return back(viewer, request, page_url(viewer, "changelist"))


def _ticked(request: HttpRequest) -> dict[int, str]:
    """What was ticked: by the task's id, the version that the page showed of it."""
    given = [one.partition(":") for one in request.POST.getlist("ticked")]
    _ids([number for number, _colon, _version in given])
    return {read_id(number) or 0: version for number, _colon, version in given}


def _ids(given: Collection[str]) -> set[int]:
    ids = {read_id(one) for one in given}
    known = {one for one in ids if one is not None}
    if len(given) > MOST_SELECTED or len(known) < len(ids):
        raise SuspiciousOperation("These are no ids of tasks.")
    return known


def _do(
    viewer: Viewer, button: Button, seen: Mapping[int, str], reason: str, *, takes_back: bool
) -> tuple[Outcome, list[str]]:
    """What became of the tasks, and who acted on them since they were seen."""
    using = router.db_for_write(Task)
    visible = viewer.tasks.using(using).filter(pk__in=seen).defer("data", "result")
    rows = {task.pk: task for task in visible}
    allowed = {pk for pk, task in rows.items() if may_press(viewer, button, task)}
    with transaction.atomic(using=using):
        locked = lock(using, allowed, actions.MOVES[button.name])
        known = versions(locked.values())
        if takes_back:
            late = locked.keys() - _done_by(viewer, button, known)
        else:
            late = {pk for pk, row in locked.items() if row.shown_state in button.states}
            late = {pk for pk in late if known[pk] != seen[pk]}
        outcome = actions.many(using, allowed - late, button.name, by=viewer.user, reason=reason)
        done = str(button.done).capitalize()
        text = f"{done}: {reason}" if reason else f"{done}."
        log(viewer, [rows[pk] for pk in sorted(outcome.done)], text)
    skipped = {**outcome.skipped, "changed": len(late), "forbidden": len(rows) - len(allowed)}
    # Who may not know of a task hears of it what they would hear of one that is deleted.
    skipped["gone"] = len(seen) - len(rows) + outcome.skipped.get("gone", 0)
    left = {why: count for why, count in skipped.items() if count}
    return Outcome(outcome.done, left), _acted_since(using, known, seen)


def _done_by(viewer: Viewer, button: Button, known: Mapping[int, str]) -> set[int]:
    """Those of the tasks to which this person did last what ``button`` takes back."""
    events = TaskEvent.objects.using(router.db_for_write(Task)).filter(
        pk__in=_events(known.values()),
        who=name_of(viewer.user),
        action__in=[name for name, other in BUTTONS.items() if other.back == button.name],
    )
    return {task_id for task_id in events.values_list("task_id", flat=True) if task_id}


def _acted_since(using: str, known: Mapping[int, str], seen: Mapping[int, str]) -> list[str]:
    """Who acted on tasks after somebody saw them."""
    moved = {pk for pk, version in known.items() if seen[pk] and seen[pk] != version}
    news = _events(known[pk] for pk in moved) - _events(seen[pk] for pk in moved)
    names = TaskEvent.objects.using(using).filter(pk__in=news).values_list("who", flat=True)
    return sorted({name or _("A program") for name in names})


def _events(shown: Iterable[str]) -> set[int]:
    """The last events that versions name."""
    return {event for version in shown if (event := read_id(version.rpartition(".")[2]))}


def _summary(
    viewer: Viewer, button: Button, outcome: Outcome, names: Collection[str]
) -> SafeString:
    """``3 retried, 1 skipped: 1 is running.``, where to read about it, and the way back."""
    text = _("%(count)d %(done)s") % {"count": len(outcome.done), "done": button.done}
    if outcome.skipped:
        text += ", " + _("%(count)d skipped: %(why)s") % {
            "count": sum(outcome.skipped.values()),
            "why": skipped_text(outcome.skipped),
        }
    text += "."
    if names:
        text += " " + _("Meanwhile acted on by: %(names)s.") % {"names": ", ".join(names)}
    if not outcome.done:
        return format_html("{}", text)
    activity = format_html(
        '<a href="{}">{}</a>', page_url(viewer, "activity"), _("Show the activity")
    )
    return format_html("{} {} {}", text, activity, _way_back(viewer, button, outcome.done))


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
