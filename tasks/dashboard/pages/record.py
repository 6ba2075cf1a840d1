"""The page of a record: how its tasks are, and their story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.apps import apps
from django.contrib import messages
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import models, router, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks import actions
from tasks.dashboard.buttons import ShownButton, shown_buttons, skipped_text
from tasks.dashboard.display import SHOWN_STATES, state_html, when_html
from tasks.dashboard.facts import Neighbour, Progress, progress, waiting_for
from tasks.dashboard.finding import known_keys
from tasks.dashboard.ids import read_id
from tasks.dashboard.log import log
from tasks.dashboard.page import Page, back, page_url, post, say
from tasks.dashboard.records import ShownRecord, record_url, shown_keys
from tasks.dashboard.rollup import rollup_html, rollup_text, shown_state
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
#: Tasks of one record that are retried at once; for more there are bulk actions.
MOST_RETRIED = 1000


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
        return _content_type(self.arguments["app"], self.arguments["model"])

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
        tasks = _tasks_of(viewer, self.content_type, key)
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
            "retry_all_url": self._retry_all_url(counts),
            "ticket": ticket(self.url(), newest, story, title=self.title, line=line),
        }

    @property
    def _before(self) -> int | None:
        return read_id(self.query.get("before", ""))

    def _retry_all_url(self, counts: Counter[str]) -> str:
        if counts["failed"] < 2 or not self.viewer.has("retry_task"):
            return ""
        return page_url(self.viewer, "record_retry", **self.arguments)


@post("record-retry/<slug:app>/<slug:model>/<path:key>/", "record_retry")
def retry_all(viewer: Viewer, request: HttpRequest, app: str, model: str, key: str) -> HttpResponse:
    """Retry every failed task of a record that this person may retry."""
    if not viewer.has("retry_task"):
        raise PermissionDenied
    content_type = _content_type(app, model)
    using = router.db_for_write(Task)
    failed = _tasks_of(viewer, content_type, key).using(using).failed().defer("data", "result")
    found = list(failed[: MOST_RETRIED + 1])
    tasks = found[:MOST_RETRIED]
    allowed = [task.pk for task in tasks if viewer.may("retry", task)]
    with transaction.atomic(using=using):
        outcome = actions.many(using, allowed, "retry", by=request.user)
        done = [task for task in tasks if task.pk in outcome.done]
        log(viewer, done, _("Retried."))
    skipped = dict(outcome.skipped)
    if len(allowed) < len(tasks):
        skipped["forbidden"] = len(tasks) - len(allowed)
    _tell(request, len(done), skipped, are_more=len(found) > len(tasks))
    return back(viewer, request, record_url(viewer, content_type, key))


def _tell(request: HttpRequest, done: int, skipped: dict[str, int], *, are_more: bool) -> None:
    text = ngettext("%(count)d task was retried.", "%(count)d tasks were retried.", done)
    said = text % {"count": done}
    if not (done or skipped):
        said = _("Nothing was retried: no task of this record is failed.")
    if skipped:
        left = _("Left as they are: %(which)s.") % {"which": skipped_text(skipped)}
        said = f"{said} {left}"
    if are_more:
        more = _("More tasks of this record are failed than are retried at once.")
        said = f"{said} {more}"
    say(request, messages.SUCCESS if done else messages.WARNING, said)


def _content_type(app: str, model: str) -> ContentType:
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


def _tasks_of(viewer: Viewer, content_type: ContentType, key: str) -> TaskQuerySet:
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
