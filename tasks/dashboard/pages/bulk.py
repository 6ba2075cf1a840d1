"""The page of one bulk action: how far it is, what was skipped, and what stops it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks import bulk as bulks
from tasks.dashboard.display import state_html, time_html
from tasks.dashboard.log import log
from tasks.dashboard.page import Page, back, page_url, post, say
from tasks.dashboard.queue_buttons import version
from tasks.dashboard.shown_bulk import ShownBulk, may_see, may_steer
from tasks.dashboard.typed import LONGEST_TYPED, typed
from tasks.dashboard.viewer import Viewer
from tasks.models import BulkAction, State, Task, TaskEvent
from tasks.names import OWN
from tasks.redact import redact_text

#: So many of the tasks it touched last are looked at for new failures.
SAMPLE = 500
EXAMPLES = 5
#: After these actions a task may fail again.
_RUNS = ("retry", "run_again", "run_now")


@dataclass(frozen=True)
class Broken:
    """A task that failed again after it was touched."""

    task: Task
    url: str
    state: SafeString
    reason: str


@dataclass(frozen=True)
class Told:
    """What somebody did to the bulk action itself."""

    who: str
    did: str
    at: SafeString
    reason: str


class BulkPage(Page):
    """One bulk action. Its address may be passed on."""

    name = "bulk"
    path = "bulk/<int:bulk_id>/"
    template = "tasks/dashboard/bulk.html"
    parts = {"af-bulk": "tasks/dashboard/bulk/progress.html"}
    numbers = frozenset({"af-bulk"})
    tab = "activity"

    @property
    def title(self) -> str:
        return self.shown.name

    @cached_property
    def shown(self) -> ShownBulk:
        """The bulk action. Raises Http404 when the person may not know of it."""
        return ShownBulk(self.viewer, asked(self.viewer, self.arguments["bulk_id"]))

    def context(self) -> dict[str, Any]:
        shown = self.shown
        broken, sample = self._broken()
        return {
            "bulk": shown,
            "broken": broken,
            "broken_number": len(broken),
            "broken_examples": broken[:EXAMPLES],
            "sample": sample,
            "story": self._story(),
            "may_steer": may_steer(self.viewer, shown.bulk),
            "task_url": self._task_url(),
            "events_url": f"{page_url(self.viewer, 'activity')}?bulk={shown.id}",
            "longest_reason": LONGEST_TYPED,
            **{
                f"{name}_url": page_url(self.viewer, f"bulk_{name}", bulk_id=shown.id)
                for name in _STEERS
            },
        }

    def queues(self) -> Collection[str]:
        return {OWN}

    def _broken(self) -> tuple[list[Broken], int]:
        """Of the tasks it touched last those that failed again; and how many were looked at."""
        bulk = self.shown.bulk
        if bulk.action not in _RUNS:
            return [], 0
        events = TaskEvent.objects.using(bulk._state.db).filter(bulk=bulk).order_by("-pk")
        ids = list(events.values_list("task_id", flat=True)[:SAMPLE])
        failed = self.viewer.tasks.filter(pk__in=ids, state=State.FAILED)
        failed = failed.filter(finished_at__gt=bulk.created_at).defer("data", "result")
        return [
            Broken(
                task=task,
                url=page_url(self.viewer, "change", task_id=task.pk),
                state=state_html(task),
                reason=redact_text(task.reason),
            )
            for task in failed.order_by("-pk")
        ], len(ids)

    def _story(self) -> list[Told]:
        return [
            Told(
                who=event.who or _("A program"),
                did=str(did(event.action)),
                at=time_html(event.at),
                # Why it was started stands above.
                reason="" if event.action == "bulk_start" else redact_text(event.reason),
            )
            for event in self.shown.bulk.story.order_by("-pk")[:20]
        ]

    def _task_url(self) -> str:
        task = self.shown.bulk.task
        # It says more than this page only when something is wrong with it.
        if task is None or self.shown.status not in ("retrying", "adrift"):
            return ""
        seen = self.viewer.tasks.filter(pk=task.pk).exists()
        return page_url(self.viewer, "change", task_id=task.pk) if seen else ""


def asked(viewer: Viewer, bulk_id: int, using: str | None = None) -> BulkAction:
    """The bulk action. Raises Http404 when there is none that the person may know of."""
    rows = BulkAction.objects.using(using or Task.objects.db)
    found = rows.select_related("task").filter(pk=bulk_id)
    bulk = found.first()
    if bulk is None or not may_see(viewer, bulk):
        raise Http404(_("There is no such bulk action (any more)."))
    return bulk


def did(action: str) -> str:
    """What somebody did to a bulk action, after their name."""
    words = {
        "bulk_start": _("started it"),
        "bulk_pause": _("paused it"),
        "bulk_resume": _("resumed it"),
        "bulk_cancel": _("cancelled the rest"),
    }
    return words.get(action, action)


_STEERS: dict[str, Callable[..., bool]] = {
    "pause": bulks.pause,
    "resume": bulks.resume,
    "cancel": bulks.cancel,
}


@post("bulk/<int:bulk_id>/pause/", "bulk_pause")
def pause(viewer: Viewer, request: HttpRequest, bulk_id: int) -> HttpResponse:
    """Stop before the next tasks."""
    return _steer(viewer, request, bulk_id, "pause", _("It pauses; nothing more is touched."))


@post("bulk/<int:bulk_id>/resume/", "bulk_resume")
def resume(viewer: Viewer, request: HttpRequest, bulk_id: int) -> HttpResponse:
    """Go on."""
    return _steer(viewer, request, bulk_id, "resume", _("It goes on where it stood."))


@post("bulk/<int:bulk_id>/cancel/", "bulk_cancel")
def cancel(viewer: Viewer, request: HttpRequest, bulk_id: int) -> HttpResponse:
    """End it."""
    text = _("The rest is cancelled. What was done stays done.")
    return _steer(viewer, request, bulk_id, "cancel", text)


def _steer(
    viewer: Viewer, request: HttpRequest, bulk_id: int, name: str, said: str
) -> HttpResponse:
    using = router.db_for_write(Task)
    bulk = asked(viewer, bulk_id, using)
    if not may_steer(viewer, bulk):
        raise PermissionDenied
    reason = typed(request.POST, f"reason-{name}")
    seen = request.POST.get("version", "")
    with transaction.atomic(using=using):
        now = bulks.lock(using, bulk_id)
        # Resumed and paused again since: that was decided later, by somebody who knew more.
        is_as_seen = now is not None and seen in ("", version(now.paused_at))
        done = is_as_seen and _STEERS[name](bulk, by=viewer.user, reason=reason)
        if done:
            told = did(f"bulk_{name}").capitalize()
            log(viewer, [bulk], f"{told}: {reason}" if reason else told)
    if done:
        say(request, messages.SUCCESS, said)
    else:
        say(request, messages.WARNING, _was_faster(asked(viewer, bulk_id, using)))
    return back(viewer, request, page_url(viewer, "bulk", bulk_id=bulk_id))


def _was_faster(bulk: BulkAction) -> str:
    """Why nothing was changed."""
    last = bulk.story.order_by("-pk").first()
    if bulk.finished_at and not bulk.cancelled_at:
        return _("Nothing was changed: it has ended.")
    if last is None:
        return _("Nothing was changed.")
    text = _("Nothing was changed: %(who)s %(did)s already.")
    return text % {"who": last.who or _("a program"), "did": did(last.action)}
