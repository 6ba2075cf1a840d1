"""Retrying all failed tasks of a record from its page."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks import actions
from tasks.dashboard.buttons import RETRY, may_press, skipped_text
from tasks.dashboard.log import log
from tasks.dashboard.page import back, post, say
from tasks.dashboard.pages.record import content_type_of, tasks_of
from tasks.dashboard.record_buttons import REASON, meant, seen_of
from tasks.dashboard.records import record_url
from tasks.dashboard.typed import typed
from tasks.dashboard.viewer import Viewer
from tasks.models import Task
from tasks.transitions import lock


@post("record-retry/<slug:app>/<slug:model>/<path:key>/", "record_retry")
def retry_all(viewer: Viewer, request: HttpRequest, app: str, model: str, key: str) -> HttpResponse:
    """Retry every failed task of a record that this person may retry.

    With a ``version`` nothing is done unless they are those that were seen, as they were seen.
    """
    if not viewer.has("retry_task"):
        raise PermissionDenied
    content_type = content_type_of(app, model)
    using = router.db_for_write(Task)
    ids, are_more = meant(tasks_of(viewer, content_type, key).using(using))
    with transaction.atomic(using=using):
        rows = lock(using, ids, actions.MOVES["retry"])
        seen = request.POST.get("version", "")
        if rows and seen and seen != seen_of(rows.values()):
            say(request, messages.WARNING, _moved_on())
        else:
            done, skipped = _retry(viewer, using, rows, typed(request.POST, REASON, "reason"))
            _tell(request, done, skipped, are_more=are_more)
    return back(viewer, request, record_url(viewer, content_type, key))


def _retry(
    viewer: Viewer, using: str, rows: dict[int, Task], reason: str
) -> tuple[int, dict[str, int]]:
    """How many were retried, and how many were not, by why."""
    allowed = [pk for pk, task in rows.items() if may_press(viewer, RETRY, task)]
    outcome = actions.many(using, allowed, "retry", by=viewer.user, reason=reason)
    done = str(RETRY.done).capitalize()
    text = f"{done}: {reason}" if reason else f"{done}."
    log(viewer, [rows[pk] for pk in sorted(outcome.done)], text)
    skipped = dict(outcome.skipped)
    if len(allowed) < len(rows):
        skipped["forbidden"] = len(rows) - len(allowed)
    return len(outcome.done), skipped


def _moved_on() -> str:
    return _(
        "Nothing was retried: other tasks of this record are failed now than when this page was "
        "loaded, or something was done to them. Please look again."
    )


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
