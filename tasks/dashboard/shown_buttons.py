"""The buttons a person may press now, with what pressing means; asked for many tasks at once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks.dashboard.buttons import (
    BUTTONS,
    CANCEL,
    CHANGE_DATA,
    COMPLETE,
    FOR_MANY,
    RESTORE,
    RUN_AGAIN,
    Button,
    may_press,
    named_task,
    reason_name,
)
from tasks.dashboard.page import page_url
from tasks.dashboard.typed import LONGEST_TYPED
from tasks.dashboard.versions import versions
from tasks.dashboard.viewer import RIGHTS, Viewer
from tasks.models import Prerequisite, State, Task, TaskEvent
from tasks.redact import redact_text

#: So many of the tasks that wait for one are named beside its buttons.
MOST_NAMED = 5
_MOST_LINKS = 200
_MOST_WAITING = 10_000


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

    longest_reason = LONGEST_TYPED

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

    @property
    def press_id(self) -> str:
        """The id of the button itself: a live update must not make another of it under a finger."""
        return f"af-press-{self.name}-{self.key}"


def shown_buttons(viewer: Viewer, tasks: Iterable[Task]) -> dict[int, list[ShownButton]]:
    """The buttons of each task, by its id; at most six queries."""
    offered = {task: _offered(viewer, task) for task in tasks}
    known = _Known.of(viewer, [task for task, buttons in offered.items() if buttons])
    return {
        task.pk: [_shown(viewer, task, button, known) for button in buttons]
        for task, buttons in offered.items()
    }


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
    held: Mapping[int, int] = field(default_factory=dict)  # how many of these for others, too
    named: Mapping[int, list[tuple[str, str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, viewer: Viewer, tasks: list[Task]) -> _Known:
        known = cls(versions(tasks))
        parents = [task.pk for task in tasks if task.has_dependents]
        if parents:
            pairs = _waiting(tasks[0]._state.db, parents)
            known.waiting = Counter(parent for parent, __ in pairs)
            known.named = _names(viewer, pairs[:_MOST_LINKS])
            done = {task.pk for task in tasks if task.shown_state in COMPLETE.states}
            known.held = _held(tasks[0]._state.db, [pair for pair in pairs if pair[0] in done])
        return known


def _waiting(using: str | None, parents: Sequence[int]) -> list[tuple[int, int]]:
    """Which tasks wait for which of ``parents``: pairs, the parent first."""
    links = Prerequisite.objects.using(using).filter(prerequisite__in=parents)
    pairs = list(links.values_list("prerequisite_id", "task_id")[:_MOST_WAITING])
    # Apart, by key: joined, PostgreSQL may go through all tasks that wait for anything.
    tasks = Task.objects.using(using).filter(pk__in={task_id for __, task_id in pairs})
    waiting = set(tasks.filter(state=State.WAITING).values_list("pk", flat=True))
    return [pair for pair in pairs if pair[1] in waiting]


def _held(using: str | None, pairs: Sequence[tuple[int, int]]) -> Counter[int]:
    """How many of those that wait for each parent would wait for others when it is done."""
    if not pairs:
        return Counter()
    links = Prerequisite.objects.using(using).filter(task__in={task_id for __, task_id in pairs})
    needed: dict[int, set[int]] = defaultdict(set)
    for task_id, needed_id in links.values_list("task_id", "prerequisite_id")[:_MOST_WAITING]:
        needed[task_id].add(needed_id)
    others = Task.objects.using(using).filter(pk__in=set().union(*needed.values()))
    # As when they are released, see tasks.settle.
    unsettled = others.exclude(state__in=(State.COMPLETED, State.CANCELLED))
    open_ones = set(unsettled.values_list("pk", flat=True))
    return Counter(parent for parent, task_id in pairs if needed[task_id] & open_ones - {parent})


def _names(viewer: Viewer, pairs: Sequence[tuple[int, int]]) -> dict[int, list[tuple[str, str]]]:
    # Only those this person may know of; the number says how many there are besides.
    seen = viewer.tasks.only("id", "type", "action").in_bulk({task_id for __, task_id in pairs})
    named: dict[int, list[tuple[str, str]]] = {}
    for parent, task_id in pairs:
        names = named.setdefault(parent, [])
        if task_id in seen and len(names) < MOST_NAMED:
            names.append((named_task(seen[task_id]), page_url(viewer, "change", task_id=task_id)))
    return named


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
        says=_says(task, button, waiting, known.held.get(task.pk, 0)),
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


def selected_buttons(viewer: Viewer, tasks: Sequence[Task] = ()) -> list[ShownButton]:
    """The buttons for ticked rows; ``tasks`` can be ticked."""
    return [
        ShownButton(
            name=button.name,
            label=str(button.label),
            url=page_url(viewer, "selected", action=button.name),
            key="selected",
            asks="" if button.asks == "optional" else button.asks,
            look="af-danger" if button is CANCEL else "",
            says=_says_of_many(button, tasks),
        )
        for button in FOR_MANY
        if viewer.may_enter and viewer.has(RIGHTS[button.name])
    ]


def _says(task: Task, button: Button, waiting: int, held: int) -> str:
    if button is CANCEL and waiting:
        return ngettext(
            "%(count)d task waits for this and is cancelled too, with all that wait for it:",
            "%(count)d tasks wait for this and are cancelled too, with all that wait for them:",
            waiting,
        ) % {"count": waiting}
    if button is CANCEL:
        return _("It will not run. No other task waits for it.")
    if button is COMPLETE and held == waiting > 0:
        return ngettext(
            "It is not run: it counts as done. %(count)d task waits for this, but for others too, "
            "and goes on waiting:",
            "It is not run: it counts as done. %(count)d tasks wait for this, but for others too, "
            "and go on waiting:",
            waiting,
        ) % {"count": waiting}
    if button is COMPLETE and held:
        return ngettext(
            "It is not run: it counts as done. Of %(count)d tasks that wait for this %(free)d goes "
            "on, the rest waits for others too:",
            "It is not run: it counts as done. Of %(count)d tasks that wait for this %(free)d go "
            "on, the rest waits for others too:",
            waiting - held,
        ) % {"count": waiting, "free": waiting - held}
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


def _says_of_many(button: Button, tasks: Sequence[Task]) -> str:
    if button is CANCEL:
        return _("They will not run, and what waits for them is cancelled too.")
    if button is COMPLETE:
        return _("They are not run: they count as done, and what waits for them goes on.")
    if button is RUN_AGAIN:
        text = _("They were done already. Running them again does the same once more.")
        return " ".join([text, *_effects(tasks)])
    return ""


def _effects(tasks: Sequence[Task]) -> list[str]:
    """What doing the completed ones again may cause: ``Send the mail: may send it twice.``"""
    known = {task.handler for task in tasks if task.state == State.COMPLETED}
    effects = [(one.title or one.name, str(one.repeat)) for one in known if one and one.repeat]
    return [f"{title}: {redact_text(text).rstrip('.')}." for title, text in sorted(effects)]
