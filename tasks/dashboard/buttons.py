"""What staff may do to a task: each is one POST, one right, one event, one entry in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from tasks.dashboard.display import SHOWN_STATES
from tasks.dashboard.viewer import Viewer
from tasks.models import Task
from tasks.names import OWN

if TYPE_CHECKING:
    from tasks.dashboard.display import Words


@dataclass(frozen=True, kw_only=True)
class Button:
    """One thing staff may do. ``name`` is also the end of the address, ``back`` what undoes it.

    ``states``: words of ``Task.shown_state``. ``did`` and ``done``: "ann retried this", "it was
    retried". ``asks``: whether a reason is optional, required, or asked on a page of its own.
    """

    name: str
    label: Words
    done: Words
    did: Words
    states: tuple[str, ...]
    asks: str
    back: str = ""
    look: str = ""

    @property
    def needs_reason(self) -> bool:
        """Whether it is refused without a reason."""
        return self.asks != "optional"


_LATER = ("later", "retrying")

RETRY = Button(
    name="retry",
    label=gettext_lazy("Retry"),
    done=pgettext_lazy("done to a task", "retried"),
    did=gettext_lazy("%(who)s retried this %(ago)s"),
    states=("failed", "cancelled"),
    asks="optional",
    back="cancel",
    look="af-primary",
)
RUN_NOW = Button(
    name="run_now",
    label=gettext_lazy("Run now"),
    done=pgettext_lazy("done to a task", "made due"),
    did=gettext_lazy("%(who)s made this due %(ago)s"),
    states=_LATER,
    asks="optional",
    look="af-primary",
)
RUN_AGAIN = Button(
    name="run_again",
    label=gettext_lazy("Run again"),
    done=pgettext_lazy("done to a task", "run again"),
    did=gettext_lazy("%(who)s let this run again %(ago)s"),
    states=("completed",),
    asks="required",
)
CHANGE_DATA = Button(
    name="change_data",
    label=gettext_lazy("Change data"),
    done=pgettext_lazy("done to a task", "given other data"),
    did=gettext_lazy("%(who)s changed the data of this %(ago)s"),
    states=("waiting", "due", *_LATER, "failed", "cancelled", "completed"),
    asks="page",
    back="restore",
)
CHANGE_AND_RETRY = replace(
    CHANGE_DATA, done=pgettext_lazy("done to a task", "given other data and retried")
)
COMPLETE = Button(
    name="complete",
    label=gettext_lazy("Mark as done"),
    done=pgettext_lazy("done to a task", "marked as done"),
    did=gettext_lazy("%(who)s marked this as done %(ago)s"),
    states=("failed", "cancelled"),
    asks="required",
    back="run_again",
)
CANCEL = Button(
    name="cancel",
    label=pgettext_lazy("withdraw a task", "Cancel"),
    done=pgettext_lazy("done to a task", "cancelled"),
    did=gettext_lazy("%(who)s cancelled this %(ago)s"),
    states=("waiting", "due", *_LATER),
    asks="required",
    back="retry",
    look="af-danger",
)
RESTORE = Button(
    name="restore",
    label=gettext_lazy("Restore the old data"),
    done=pgettext_lazy("done to a task", "given its old data back"),
    did=gettext_lazy("%(who)s gave this its old data back %(ago)s"),
    states=("waiting", "due", *_LATER, "failed", "cancelled"),
    asks="optional",
)
BUTTONS = {
    button.name: button
    for button in (RETRY, RUN_NOW, RUN_AGAIN, CHANGE_DATA, COMPLETE, CANCEL, RESTORE)
}
#: What can be done to tasks without looking at each: in the order of the buttons.
FOR_MANY = (RETRY, RUN_NOW, RUN_AGAIN, COMPLETE, CANCEL)

_DID: dict[str, Words] = {
    **{button.name: button.did for button in BUTTONS.values()},
    "change_and_retry": gettext_lazy("%(who)s changed the data of this and retried it %(ago)s"),
}
_DONE_WORDS: dict[str, Words] = {
    "retry": gettext_lazy("retried"),
    "run_now": gettext_lazy("made due"),
    "run_again": gettext_lazy("ran again"),
    "change_data": gettext_lazy("changed the data"),
    "change_and_retry": gettext_lazy("changed the data and retried"),
    "restore": gettext_lazy("restored the old data"),
    "cancel": pgettext_lazy("after a name", "cancelled"),
    "complete": gettext_lazy("marked as done"),
    "pause": gettext_lazy("paused the queue"),
    "resume": gettext_lazy("resumed the queue"),
}


def did(action: str) -> str:
    """``%(who)s retried this %(ago)s``."""
    return str(_DID.get(action, _("%(who)s changed this %(ago)s")))


def done_word(action: str) -> str:
    """What somebody did, after their name: ``retried``. Unknown actions come back as they are."""
    return str(_DONE_WORDS.get(action, action))


def reason_name(action: str, key: object) -> str:
    """The name of the field for the reason: every button of a page has its own."""
    return f"reason-{action}-{key}"


def may_press(viewer: Viewer, button: Button, task: Task) -> bool:
    """Whether the person has the right, whatever state the task is in."""
    changes_data = button.name in ("change_data", "restore")
    if changes_data and (task.type == OWN or not viewer.sees_data):
        return False
    return viewer.may(button.name, task)


def named_task(task: Task) -> str:
    """The task's title and number."""
    return f"{task.title} #{task.pk}"


def skipped_text(skipped: Mapping[str, int]) -> str:
    """``2 are running, 1 is gone``: why nothing was done to some tasks."""
    counted = Counter(skipped)
    return ", ".join(_skipped(why, count) for why, count in sorted(counted.items()) if count)


def _skipped(why: str, count: int) -> str:
    if why == "gone":
        text = ngettext("%(count)d is deleted", "%(count)d are deleted", count)
    elif why == "unique_key":
        text = ngettext(
            "of %(count)d another task has the unique key",
            "of %(count)d other tasks have the unique keys",
            count,
        )
    elif why == "changed":
        text = ngettext(
            "%(count)d has moved on since this page was loaded",
            "%(count)d have moved on since this page was loaded",
            count,
        )
    elif why == "forbidden":
        text = ngettext("%(count)d you may not touch", "%(count)d you may not touch", count)
    else:
        text = ngettext("%(count)d is %(state)s", "%(count)d are %(state)s", count)
    word = SHOWN_STATES[why].word if why in SHOWN_STATES else why
    return text % {"count": count, "state": word}
