"""A button was pressed: check that it still means what was seen, do it, log it, say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks import actions
from tasks.actions import name_of
from tasks.dashboard.buttons import BUTTONS, Button, did, may_press, named_task, reason_name
from tasks.dashboard.display import relative, state_word
from tasks.dashboard.log import log
from tasks.dashboard.page import back, page_url, say
from tasks.dashboard.typed import typed
from tasks.dashboard.versions import last_event, versions
from tasks.dashboard.viewer import RIGHTS, Viewer
from tasks.exceptions import TransitionRefused, UniqueKeyTaken
from tasks.models import Task, TaskEvent
from tasks.transitions import Move, lock

#: Does it to the locked task and returns the event it wrote.
Act = Callable[[Task, str], TaskEvent]


class NotDone(Exception):
    """Nothing was changed; the message is for the person."""


def press(viewer: Viewer, request: HttpRequest, task_id: int, name: str) -> HttpResponse:
    """Do what the button ``name`` says, and go back to the page it was pressed on."""
    button = BUTTONS[name]
    task = asked_task(viewer, button, task_id)

    def act(row: Task, reason: str) -> TaskEvent:
        event: TaskEvent = getattr(actions, name)(row, by=viewer.user, reason=reason)
        return event

    try:
        event = do(viewer, button, task, given_reason(viewer, request, button, task), act)
    except NotDone as refused:
        say(request, messages.WARNING, str(refused))
    else:
        say(request, messages.SUCCESS, done_message(viewer, button, task, event))
    return back(viewer, request, page_url(viewer, "change", task_id=task_id))


def asked_task(viewer: Viewer, button: Button, task_id: int) -> Task:
    """The task, if the person may know of it and do this to it; else 404 or 403."""
    if not viewer.has(RIGHTS[button.name]):
        raise PermissionDenied
    visible = viewer.tasks.using(router.db_for_write(Task))
    task = visible.filter(pk=task_id).defer("data", "result").first()
    if task is None:
        raise Http404(_("There is no task %(id)s (any more).") % {"id": task_id})
    if not may_press(viewer, button, task):
        raise PermissionDenied
    return task


def given_reason(viewer: Viewer, request: HttpRequest, button: Button, task: Task) -> str:
    """What was typed beside the button. Raises NotDone where it is missing and required."""
    reason = typed(request.POST, reason_name(button.name, task.pk), "reason")
    if reason or not button.needs_reason:
        return reason
    if _takes_back(viewer, request, button, task):
        return _("Taken back.")
    raise NotDone(
        _("Nothing was done: please give a reason, others will read it. (%(label)s %(task)s)")
        % {"label": button.label, "task": named_task(task)}
    )


def _takes_back(viewer: Viewer, request: HttpRequest, button: Button, task: Task) -> bool:
    """Whether this undoes what the same person did last: that needs no other reason."""
    last = last_event(task)
    if last is None or str(last.pk) != request.GET.get("undo"):
        return False
    undone = BUTTONS.get(last.action)
    return undone is not None and undone.back == button.name and last.who == name_of(viewer.user)


def do(
    viewer: Viewer, button: Button, task: Task, reason: str, act: Act, *, runs_again: bool = False
) -> TaskEvent:
    """Do it and log it in one transaction, if the task is still as it was seen. Raises NotDone.

    ``runs_again``: ``act`` also retries it.
    """
    using = router.db_for_write(Task, instance=task)
    # All that will be touched at once: who takes locks one after another meets others in a circle.
    way = actions.MOVES.get("retry" if runs_again else button.name, actions.CHANGE)
    with refusals(button, task), transaction.atomic(using=using):
        row = _locked_as_seen(viewer, button, task, using, way)
        event = act(row, reason)
        done = str(button.done).capitalize()
        log(viewer, [row], f"{done}: {reason}" if reason else f"{done}.")
    return event


def _locked_as_seen(viewer: Viewer, button: Button, task: Task, using: str, way: Move) -> Task:
    row = lock(using, {task.pk}, way).get(task.pk)
    if row is None:
        raise NotDone(_("%(task)s does not exist any more.") % {"task": named_task(task)})
    seen = viewer.request.POST.get("version", "")
    if seen != versions([row])[row.pk]:
        raise NotDone(moved_on(row, seen))
    if row.shown_state not in button.states:
        raise NotDone(_cannot(button, row, state_word(row)))
    return row


@contextmanager
def refusals(button: Button, task: Task) -> Iterator[None]:
    """What the task refuses, in words for the person."""
    try:
        yield
    except TransitionRefused as refused:
        raise NotDone(_cannot(button, task, refused.state)) from refused
    except UniqueKeyTaken as taken:
        text = _(
            "%(task)s cannot run again now: task #%(other)s has the same unique key and is not "
            "finished yet."
        )
        raise NotDone(text % {"task": named_task(task), "other": taken.other}) from taken


def _cannot(button: Button, task: Task, state: str) -> str:
    text = _("%(task)s is %(state)s: it cannot be %(done)s.")
    return text % {"task": named_task(task), "state": state, "done": button.done}


def moved_on(task: Task, seen: str) -> str:
    """Who was faster than the person who saw the version ``seen``, and what the task does now."""
    event = last_event(task)
    if event is None or str(event.pk) == seen.rpartition(".")[2]:
        text = _(
            "%(task)s has moved on since this page was loaded, nothing was done: it is %(state)s."
        )
        return text % {"task": named_task(task), "state": state_word(task)}
    text = _("%(did)s; it is %(state)s. Nothing was done.")
    who = {"who": event.who or _("A program"), "ago": relative(event.at)}
    return text % {"did": did(event.action) % who, "state": state_word(task)}


def done_message(viewer: Viewer, button: Button, task: Task, event: TaskEvent) -> SafeString:
    """What was done, with the way back beside it where there is one."""
    text = _("%(task)s was %(done)s.") % {"task": "{}", "done": button.done}
    address = page_url(viewer, "change", task_id=task.pk)
    said = format_html(text, format_html('<a href="{}">{}</a>', address, named_task(task)))
    return format_html("{} {}", said, way_back(viewer, button, task, event))


def way_back(viewer: Viewer, button: Button, task: Task, event: TaskEvent) -> SafeString:
    """The button that undoes it, outside the live parts; empty where this person has none."""
    undo = BUTTONS.get(button.back)
    rows = Task.objects.using(event._state.db).filter(pk=task.pk)
    now = rows.defer("data", "result").first()
    if undo is None or now is None:
        return SafeString("")
    if now.shown_state not in undo.states or not may_press(viewer, undo, now):
        return SafeString("")
    name = "event" if undo.name == "restore" else "undo"
    return format_html(
        '<button form="af-form" formaction="{}?{}={}" name="version" value="{}"'
        ' class="af-button">{}</button>',
        page_url(viewer, undo.name, task_id=now.pk),
        name,
        event.pk,
        versions([now])[now.pk],
        undo.label,
    )
