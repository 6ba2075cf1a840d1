"""What staff may do to a task: each is one POST, one right, one line in the admin's log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import router, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from tasks.admin.display import relative, state_word
from tasks.exceptions import TransitionRefused, UniqueKeyTaken
from tasks.models import Prerequisite, State, Task, TaskEvent
from tasks.redact import redact_text

if TYPE_CHECKING:
    from tasks.admin.display import Words

LONGEST_REASON = 1000


@dataclass(frozen=True, kw_only=True)
class Button:
    """One thing staff may do. ``name`` is also the method of Task and the end of the address."""

    name: str
    label: Words
    done: Words
    selected: Words
    states: tuple[State, ...]
    needs_reason: bool

    @property
    def permission(self) -> str:
        """The right that is needed besides seeing tasks."""
        return f"tasks.{self.name}_task"


RETRY = Button(
    name="retry",
    label=gettext_lazy("Retry"),
    done=pgettext_lazy("done to a task", "retried"),
    selected=gettext_lazy("Retry selected tasks"),
    states=(State.FAILED, State.CANCELLED),
    needs_reason=False,
)
CANCEL = Button(
    name="cancel",
    label=pgettext_lazy("withdraw a task", "Cancel"),
    done=pgettext_lazy("done to a task", "cancelled"),
    selected=gettext_lazy("Cancel selected tasks"),
    states=(State.WAITING, State.SCHEDULED),
    needs_reason=True,
)
COMPLETE = Button(
    name="complete",
    label=gettext_lazy("Mark as done"),
    done=pgettext_lazy("done to a task", "marked as done"),
    selected=gettext_lazy("Mark selected tasks as done"),
    states=(State.FAILED, State.CANCELLED),
    needs_reason=True,
)
BUTTONS = {button.name: button for button in (RETRY, CANCEL, COMPLETE)}


class NotDone(Exception):
    """Nothing was changed. ``why`` is short enough for a list of reasons."""

    def __init__(self, why: str, message: str) -> None:
        self.why = why
        super().__init__(message)


def version(task: Task) -> str:
    """What a page shows of a task, so that a button pressed on it later means what was seen."""
    last = _last_event(task)
    return f"{task.state}.{task.lease}.{task.attempts}.{last.pk if last else 0}"


def press(
    button: Button,
    task: Task,
    *,
    by: object,
    reason: str,
    log: Callable[[Task, str], object],
    seen: str = "",
) -> None:
    """Do it, and write it to the admin's log, in one transaction.

    ``seen`` is the ``version`` the person acted on; empty means any. ``log`` writes the entry.
    Raises NotDone.
    """
    using = router.db_for_write(Task, instance=task)
    try:
        with transaction.atomic(using=using):
            current = _locked(using, task)
            _check(button, current, seen)
            getattr(current, button.name)(by=by, reason=reason)
            log(current, _log_text(button, reason))
    except TransitionRefused as refused:
        raise _refused(button, task, refused.state) from refused
    except UniqueKeyTaken as taken:
        message = _(
            "%(task)s cannot run again now: task #%(other)s has the same unique key and is not "
            "finished yet."
        )
        names = {"task": named(task), "other": taken.other}
        raise NotDone(_("unique key taken"), message % names) from taken


def named(task: Task) -> str:
    """The task's title and id, for messages."""
    return f"{task.title} #{task.pk}"


def _locked(using: str, task: Task) -> Task:
    # With its prerequisites, in id order: what happens next locks them in that order too.
    links = Prerequisite.objects.using(using).filter(task=task.pk)
    ids = [task.pk, *links.values_list("prerequisite_id", flat=True)]
    rows = {row.pk: row for row in Task.objects.using(using).filter(pk__in=ids).locked()}
    if task.pk not in rows:
        text = _("%(task)s does not exist any more.") % {"task": named(task)}
        raise NotDone(_("deleted"), text)
    return rows[task.pk]


def _check(button: Button, task: Task, seen: str) -> None:
    if seen and seen != version(task):
        raise NotDone(state_word(task), _moved_on(task, seen))
    if task.state not in button.states:
        raise _refused(button, task, state_word(task))


def _refused(button: Button, task: Task, state: str) -> NotDone:
    text = _("%(task)s is %(state)s: it cannot be %(done)s.")
    return NotDone(state, text % {"task": named(task), "state": state, "done": button.done})


def _moved_on(task: Task, seen: str) -> str:
    event = _last_event(task)
    if event is None or str(event.pk) == seen.rpartition(".")[2]:
        text = _(
            "%(task)s has moved on since this page was loaded, nothing was done: it is %(state)s."
        )
        return text % {"task": named(task), "state": state_word(task)}
    text = _("%(who)s %(done)s this %(ago)s; it is %(state)s. Nothing was done.")
    known = BUTTONS.get(event.action)
    return text % {
        "who": event.who or _("A program"),
        "done": known.done if known else event.action,
        "ago": relative(event.at),
        "state": state_word(task),
    }


def _last_event(task: Task) -> TaskEvent | None:
    return task.events.order_by("-pk").first()


def _log_text(button: Button, reason: str) -> str:
    done = str(button.done).capitalize()
    return f"{done}: {redact_text(reason)}" if reason else f"{done}."
