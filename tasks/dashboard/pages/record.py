"""The page of a record: how its tasks are, and their story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.http import Http404
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks.dashboard.display import SHOWN_STATES, state_html, when_html
from tasks.dashboard.facts import Neighbour, Progress, progress, waiting_for
from tasks.dashboard.finding import known_keys
from tasks.dashboard.ids import read_id
from tasks.dashboard.page import Page, page_url
from tasks.dashboard.record_buttons import retry_all_button
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
        counts, ids = _counted(tasks)
        if not counts and not _may_know(viewer, self.content_type, key):
            raise Http404(_("There is no such record, or no task of it that you may see."))
        shown = _page_of(tasks, ids, self._before)
        cards = _cards(viewer, shown[:SHOWN])
        newest = [card.task for card in cards]
        story = tell(viewer, newest)
        line = rollup_text(counts)
        return {
            "record": self.record,
            "rollup": rollup_html(counts),
            "counts": counts,
            "is_counted": sum(counts.values()) < MOST_COUNTED,
            "cards": cards,
            "next_cards": [card for card in reversed(cards) if card.task.state in LIVE],
            "story": story,
            "older": newest[-1].pk if len(shown) > SHOWN else None,
            "is_newest": self._before is None,
            "buttons": self._buttons(counts, tasks),
            "ticket": ticket(self.url(), newest, story, title=self.title, line=line),
        }

    @property
    def _before(self) -> int | None:
        return read_id(self.query.get("before", ""))

    def _buttons(self, counts: Counter[str], tasks: TaskQuerySet) -> list[ShownButton]:
        if counts["failed"] < 2 or not self.viewer.has("retry_task"):
            return []
        url = page_url(self.viewer, "record_retry", **self.arguments)
        return [retry_all_button(tasks, url)]


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


def _counted(tasks: TaskQuerySet) -> tuple[Counter[str], list[int]]:
    """The states of the record's tasks, and the ids of them all, or none if there are too many.

    Without an order: the rows come from the index by record, and are few.
    """
    rows = tasks.order_by().values_list("pk", "state", "due", "attempts")[:MOST_COUNTED]
    states: Counter[str] = Counter()
    ids: list[int] = []
    for pk, state, due, attempts in rows:
        states[shown_state(state, due, attempts)] += 1
        ids.append(pk)
    return states, ids if len(ids) < MOST_COUNTED else []


def _page_of(tasks: TaskQuerySet, ids: list[int], before: int | None) -> list[Task]:
    """The newest tasks below the id ``before``, one more than are shown."""
    rows = tasks.defer("data", "result")
    if not ids:
        older = rows if before is None else rows.filter(pk__lt=before)
        return list(older.order_by("-pk")[: SHOWN + 1])
    wanted = sorted((pk for pk in ids if before is None or pk < before), reverse=True)
    found = rows.order_by().in_bulk(wanted[: SHOWN + 1])
    return sorted(found.values(), key=lambda task: -task.pk)


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
