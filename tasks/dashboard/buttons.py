"""What staff may do to a task: each is one POST, one right, one event, one entry in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, pgettext_lazy

from tasks.dashboard.display import SHOWN_STATES
from tasks.dashboard.page import page_url
from tasks.dashboard.viewer import RIGHTS, Viewer
from tasks.handlers import OWN
from tasks.models import Prerequisite, State, Task, TaskEvent
from tasks.redact import redact_text

if TYPE_CHECKING:
    from tasks.dashboard.display import Words

LONGEST_REASON = 1000
#: So many of the tasks that wait for one are named beside its buttons.
MOST_NAMED = 5
_MOST_LINKS = 200
_MOST_WAITING = 10_000


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


@dataclass(frozen=True, kw_only=True)
class ShownButton:
    """A button this person may press now.

    ``key`` makes its ids unique on a page. ``says``: what pressing means; ``waiting``: names and
    addresses of tasks that wait for this one.
    """

    name: str
    label: str
    url: str
    key: str
    asks: str
    version: str = ""
    look: str = ""
    says: str = ""
    waiting: Sequence[tuple[str, str]] = ()
    unnamed: int = 0  # so many more wait
    aria: str = ""  # what the label leaves out where there are many of these buttons

    longest_reason = LONGEST_REASON

    @property
    def needs_reason(self) -> bool:
        """Whether it is refused without a reason."""
        return self.asks == "required"

    @property
    def reason_name(self) -> str:
        """The name of the field in which the reason is typed."""
        return reason_name(self.name, self.key)

    @property
    def fold_id(self) -> str:
        """The id of what unfolds to ask for the reason."""
        return f"af-fold-{self.name}-{self.key}"


def reason_name(action: str, key: object) -> str:
    """The name of the field for the reason: every button of a page has its own."""
    return f"reason-{action}-{key}"


def shown_buttons(viewer: Viewer, tasks: Iterable[Task]) -> dict[int, list[ShownButton]]:
    """The buttons of each task, by its id; at most four queries."""
    offered = {task: _offered(viewer, task) for task in tasks}
    known = _Known.of(viewer, [task for task, buttons in offered.items() if buttons])
    return {
        task.pk: [_shown(viewer, task, button, known) for button in buttons]
        for task, buttons in offered.items()
    }


def may_press(viewer: Viewer, button: Button, task: Task) -> bool:
    """Whether the person has the right, whatever state the task is in."""
    changes_data = button.name in ("change_data", "restore")
    if changes_data and (task.type == OWN or not viewer.sees_data):
        return False
    return viewer.may(button.name, task)


def _offered(viewer: Viewer, task: Task) -> list[Button]:
    return [
        button
        for button in BUTTONS.values()
        if button is not RESTORE
        and task.shown_state in button.states
        and may_press(viewer, button, task)
    ]


@dataclass
class _Known:
    """What is asked about many tasks at once."""

    versions: Mapping[int, str]
    waiting: Mapping[int, int] = field(default_factory=dict)  # how many wait for the task
    named: Mapping[int, list[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, viewer: Viewer, tasks: list[Task]) -> _Known:
        known = cls(versions(tasks))
        parents = [task.pk for task in tasks if task.has_dependents]
        if parents:
            pairs = _waiting(tasks[0]._state.db, parents)
            known.waiting = Counter(parent for parent, __ in pairs)
            known.named = _names(viewer, pairs[:_MOST_LINKS])
        return known


def _waiting(using: str | None, parents: Sequence[int]) -> list[tuple[int, int]]:
    """Which tasks wait for which of ``parents``: pairs, the parent first."""
    links = Prerequisite.objects.using(using).filter(prerequisite__in=parents)
    pairs = list(links.values_list("prerequisite_id", "task_id")[:_MOST_WAITING])
    # Apart, by key: joined, PostgreSQL may go through all tasks that wait for anything.
    tasks = Task.objects.using(using).filter(pk__in={task_id for __, task_id in pairs})
    waiting = set(tasks.filter(state=State.WAITING).values_list("pk", flat=True))
    return [pair for pair in pairs if pair[1] in waiting]


def _names(viewer: Viewer, pairs: Sequence[tuple[int, int]]) -> dict[int, list[tuple[str, str]]]:
    # Only those this person may know of; the number says how many there are besides.
    seen = viewer.tasks.only("id", "type", "action").in_bulk({task_id for __, task_id in pairs})
    named: dict[int, list[tuple[str, str]]] = {}
    for parent, task_id in pairs:
        names = named.setdefault(parent, [])
        if task_id in seen and len(names) < MOST_NAMED:
            names.append((named_task(seen[task_id]), page_url(viewer, "change", task_id=task_id)))
    return named


def versions(tasks: Iterable[Task]) -> dict[int, str]:
    """What a page shows of each task, so that a button pressed later means what was seen."""
    given = list(tasks)
    if not given:
        return {}
    events = TaskEvent.objects.using(given[0]._state.db).filter(task__in=[t.pk for t in given])
    last = dict(events.order_by().values_list("task_id").annotate(Max("pk")))
    return {
        task.pk: f"{task.state}.{task.lease}.{task.attempts}.{last.get(task.pk, 0)}"
        for task in given
    }


def last_event(task: Task) -> TaskEvent | None:
    """What was done to it last by hand."""
    # Ordered by its key alone, a planner may walk the key of the whole table from its end.
    return task.events.order_by("-at", "-pk").first()


def named_task(task: Task) -> str:
    """The task's title and number."""
    return f"{task.title} #{task.pk}"


def _shown(viewer: Viewer, task: Task, button: Button, known: _Known) -> ShownButton:
    page = "edit_data" if button is CHANGE_DATA else button.name
    waits = button in (CANCEL, COMPLETE)
    waiting, named = known.waiting.get(task.pk, 0), known.named.get(task.pk, ())
    return ShownButton(
        name=button.name,
        label=str(button.label),
        url=page_url(viewer, page, task_id=task.pk),
        key=str(task.pk),
        asks=button.asks,
        version=known.versions[task.pk],
        look=button.look,
        says=_says(task, button, waiting),
        waiting=named if waits else (),
        unnamed=waiting - len(named) if waits else 0,
        aria=f"{button.label} {named_task(task)}",
    )


def restore_button(
    viewer: Viewer, task: Task, event: TaskEvent, version: str
) -> ShownButton | None:
    """The button that brings back the data from before ``event``, if this person may press it."""
    fits = event.before is not None and task.shown_state in RESTORE.states
    if not fits or not may_press(viewer, RESTORE, task):
        return None
    return ShownButton(
        name=RESTORE.name,
        label=str(RESTORE.label),
        url=f"{page_url(viewer, 'restore', task_id=task.pk)}?event={event.pk}",
        key=f"{task.pk}-{event.pk}",
        asks="",
        version=version,
    )


def selected_buttons(viewer: Viewer) -> list[ShownButton]:
    """The buttons for ticked rows."""
    return [
        ShownButton(
            name=button.name,
            label=str(button.label),
            url=page_url(viewer, "selected", action=button.name),
            key="selected",
            asks="" if button.asks == "optional" else button.asks,
            look="af-danger" if button is CANCEL else "",
            says=_says_of_many(button),
        )
        for button in FOR_MANY
        if viewer.may_enter and viewer.has(RIGHTS[button.name])
    ]


def _says(task: Task, button: Button, waiting: int) -> str:
    if button is CANCEL and waiting:
        return ngettext(
            "%(count)d task waits for this and is cancelled too, with all that wait for it:",
            "%(count)d tasks wait for this and are cancelled too, with all that wait for them:",
            waiting,
        ) % {"count": waiting}
    if button is CANCEL:
        return _("It will not run. No other task waits for it.")
    if button is COMPLETE and waiting:
        return ngettext(
            "It is not run: it counts as done. %(count)d task waits for this and goes on:",
            "It is not run: it counts as done. %(count)d tasks wait for this and go on:",
            waiting,
        ) % {"count": waiting}
    if button is COMPLETE:
        return _("It is not run: it counts as done. No other task waits for it.")
    if button is RUN_AGAIN:
        return effect_of_repeating(task)
    return ""


def effect_of_repeating(task: Task) -> str:
    """What doing a completed task once more may cause."""
    handler = task.handler
    if handler and handler.repeat:
        text = _("It was done already. Running it again %(effect)s.")
        return text % {"effect": redact_text(str(handler.repeat)).rstrip(".")}
    return _("It was done already. Running it again does the same once more.")


def _says_of_many(button: Button) -> str:
    if button is CANCEL:
        return _("They will not run, and what waits for them is cancelled too.")
    if button is COMPLETE:
        return _("They are not run: they count as done, and what waits for them goes on.")
    if button is RUN_AGAIN:
        return _("They were done already. Running them again does the same once more.")
    return ""


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
    elif why == "forbidden":
        text = ngettext("%(count)d you may not touch", "%(count)d you may not touch", count)
    else:
        text = ngettext("%(count)d is %(state)s", "%(count)d are %(state)s", count)
    word = SHOWN_STATES[why].word if why in SHOWN_STATES else why
    return text % {"count": count, "state": word}
