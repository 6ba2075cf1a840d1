"""The page of a record: how its tasks are, and their story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.http import Http404
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks.dashboard.buttons import RETRY, may_press
from tasks.dashboard.display import SHOWN_STATES, state_html, when_html
from tasks.dashboard.facts import Neighbour, Progress, progress, waiting_for
from tasks.dashboard.finding import known_keys
from tasks.dashboard.ids import read_id
from tasks.dashboard.page import Page, page_url
from tasks.dashboard.record_buttons import (
    MOST_RETRIED,
    meant,
    retry_all_button,
    seen_of,
    seen_of_versions,
)
from tasks.dashboard.records import ShownRecord, shown_keys
from tasks.dashboard.rollup import rollup_html, rollup_text, shown_state
from tasks.dashboard.shown_buttons import ShownButton, shown_buttons
from tasks.dashboard.shown_why import ShownWhy, shown_whys
from tasks.dashboard.story import tell
from tasks.dashboard.ticket import ticket
from tasks.dashboard.viewer import Viewer
from tasks.models import LIVE, State, Task, TaskQuerySet
from tasks.models.records import KEY_LENGTH, owner_model

#: Tasks on one page; older ones are a link away.
SHOWN = 20
#: But so many of the older ones that failed are shown at once, and of those still to be done.
MOST_OPEN = 10
#: Tasks of one record that are counted.
MOST_COUNTED = 10_000


@dataclass(frozen=True)
class Card:
    """One task of the record."""

    task: Task
    url: str
    icon: str
    state: SafeString
    when: SafeString
    why: ShownWhy
    progress: Progress | None
    waiting: list[Neighbour]
    buttons: list[ShownButton]


class RecordPage(Page):
    """A record, also one that is deleted or has no page of its own in the admin."""

    name = "record"
    path = "record/<slug:app>/<slug:model>/<path:key>/"
    template = "tasks/dashboard/record.html"
    parts = {
        "af-record-state": "tasks/dashboard/record/state.html",
        "af-record-cards": "tasks/dashboard/record/cards.html",
        "af-record-story": "tasks/dashboard/record/story.html",
        "af-record-next": "tasks/dashboard/record/next.html",
        "af-record-ticket": "tasks/dashboard/record/ticket.html",
    }
    tab = "tasks"

    @property
    def title(self) -> str:
        return self.record.text

    @cached_property
    def content_type(self) -> ContentType:
        """What the record is. Raises Http404."""
        return content_type_of(self.arguments["app"], self.arguments["model"])

    @cached_property
    def record(self) -> ShownRecord:
        """The record, existing or not."""
        key = self.arguments["key"]
        return shown_keys(self.viewer, self.content_type.pk, [key])[key]

    def queues(self) -> Collection[str] | None:
        return None

    def note(self, context: Mapping[str, Any]) -> str:
        failed = context["counts"]["failed"]
        return _("%(count)s failed") % {"count": failed} if failed else ""

    def context(self) -> dict[str, Any]:
        for name in ("record", "content_type"):
            self.__dict__.pop(name, None)
        viewer, key = self.viewer, self.arguments["key"]
        tasks = tasks_of(viewer, self.content_type, key)
        known = _counted(tasks)
        counts = known.states
        if not counts and not _may_know(viewer, self.content_type, key):
            raise Http404(_("There is no such record, or no task of it that you may see."))
        page, open_ones, are_older = _page_of(tasks, known, self._before)
        is_newest = self._before is None
        shown = [*page, *open_ones]
        cards = _cards(viewer, shown)
        story = tell(viewer, shown)
        line = rollup_text(counts)
        whys = {card.task.pk: card.why for card in cards}
        next_cards = [card for card in reversed(cards) if card.task.state in LIVE]
        return {
            "record": self.record,
            "rollup": rollup_html(counts),
            "counts": counts,
            "is_counted": known.is_whole,
            "cards": cards,
            "has_open_ones": bool(open_ones),
            "next_cards": next_cards,
            # Of a record with too many tasks nobody knows that nothing is left to do.
            "tells_next": is_newest and bool(next_cards or (cards and known.is_whole)),
            "story": story,
            "older": page[-1].pk if page and are_older else None,
            "is_newest": is_newest,
            "buttons": self._buttons(tasks, known, cards),
            "ticket": ticket(self.url(), shown, whys, story, title=self.title, line=line),
        }

    @property
    def _before(self) -> int | None:
        return read_id(self.query.get("before", ""))

    def _buttons(
        self, tasks: TaskQuerySet, known: _Counted, cards: list[Card]
    ) -> list[ShownButton]:
        if known.states["failed"] < 2 or not self.viewer.has("retry_task"):
            return []
        failed = [card for card in cards if card.task.state == State.FAILED]
        if failed and not any(may_press(self.viewer, RETRY, card.task) for card in failed):
            return []
        ids = known.failed[::-1][:MOST_RETRIED] if known.is_whole else meant(tasks)[0]
        shown = {card.task.pk: card.buttons[0].version for card in failed if card.buttons}
        if shown.keys() >= set(ids):
            seen = seen_of_versions({pk: shown[pk] for pk in ids})
        else:
            columns = ("pk", "state", "lease", "attempts")
            seen = seen_of(tasks.filter(pk__in=ids).order_by().only(*columns))
        return [retry_all_button(page_url(self.viewer, "record_retry", **self.arguments), seen)]


def content_type_of(app: str, model: str) -> ContentType:
    """Of the model that owns the tasks: a proxy or child shares those of its parent."""
    types = ContentType.objects.db_manager(Task.objects.db)
    try:
        known: type[models.Model] = apps.get_model(app, model)
    except LookupError:
        found = types.filter(app_label=app, model=model).first()
        if found is None:
            raise Http404(_("No model has this name.")) from None
        return found
    return types.get_for_model(owner_model(known))


def tasks_of(viewer: Viewer, content_type: ContentType, key: str) -> TaskQuerySet:
    """Those of a record's tasks that the person may know of."""
    if len(key) > KEY_LENGTH or "\x00" in key:
        return viewer.tasks.none()
    return viewer.tasks.filter(content_type=content_type.pk, object_id=key)


@dataclass
class _Counted:
    """The record's tasks, or as many of them as are counted: how many are in each state, and ids
    of all, of those still to be done and of the failed ones, the newest first."""

    states: Counter[str] = field(default_factory=Counter)
    ids: list[int] = field(default_factory=list)
    live: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        return len(self.ids) < MOST_COUNTED


def _counted(tasks: TaskQuerySet) -> _Counted:
    # Without an order: the rows come from the index by record, and are few.
    rows = tasks.order_by().values_list("pk", "state", "due", "attempts")[:MOST_COUNTED]
    known = _Counted()
    for pk, state, due, attempts in sorted(rows, reverse=True):
        known.states[shown_state(state, due, attempts)] += 1
        known.ids.append(pk)
        if state in LIVE:
            known.live.append(pk)
        elif state == State.FAILED:
            known.failed.append(pk)
    return known


def _page_of(
    tasks: TaskQuerySet, known: _Counted, before: int | None
) -> tuple[list[Task], list[Task], bool]:
    """The newest tasks below the id ``before``, those of the older ones that failed or are still to
    be done (if there is no ``before``), and whether there are older ones."""
    light = tasks.defer("data", "result")
    if not known.is_whole:
        rows = light if before is None else light.filter(pk__lt=before)
        found = list(rows.order_by("-pk")[: SHOWN + 1])
        return found[:SHOWN], [], len(found) > SHOWN
    wanted = [pk for pk in known.ids if before is None or pk < before]
    newest, older = wanted[:SHOWN], set(wanted[SHOWN:])
    open_ones: list[int] = []
    for ids in (known.live, known.failed) if before is None else ():
        open_ones += [pk for pk in ids if pk in older][:MOST_OPEN]
    there = light.order_by().in_bulk([*newest, *open_ones])
    page = [there[pk] for pk in newest if pk in there]
    still = [there[pk] for pk in sorted(open_ones, reverse=True) if pk in there]
    return page, still, bool(older)


def _cards(viewer: Viewer, tasks: list[Task]) -> list[Card]:
    reasons, buttons = shown_whys(viewer, tasks), shown_buttons(viewer, tasks)
    waiting = waiting_for(viewer, tasks)
    return [
        Card(
            task=task,
            url=page_url(viewer, "change", task_id=task.pk),
            icon=SHOWN_STATES[task.shown_state].icon,
            state=state_html(task),
            when=when_html(task),
            why=reasons[task.pk],
            progress=progress(task) if task.state == State.RUNNING else None,
            waiting=waiting.get(task.pk, []),
            buttons=buttons[task.pk],
        )
        for task in tasks
    ]


def _may_know(viewer: Viewer, content_type: ContentType, key: str) -> bool:
    """Whether a record without visible tasks exists, and the host's admin shows it to them."""
    model = content_type.model_class()
    return model is not None and bool(known_keys(viewer, model, [key]))
