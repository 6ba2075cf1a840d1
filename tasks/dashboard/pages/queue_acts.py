"""Pausing and resuming queues from the pages."""

from __future__ import annotations

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks import queues
from tasks.conf import aftersave_settings
from tasks.dashboard.buttons import reason_name
from tasks.dashboard.display import relative
from tasks.dashboard.log import log
from tasks.dashboard.page import back, page_url, post, say
from tasks.dashboard.queue_buttons import RESUME_LABEL, version
from tasks.dashboard.typed import typed
from tasks.dashboard.viewer import Viewer
from tasks.exceptions import QueueCannotBePaused, QueueUnchanged
from tasks.handlers import registry
from tasks.models import Queue, Task
from tasks.text import is_storable


@post("queue/<path:queue>/pause/", "queue_pause")
def pause(viewer: Viewer, request: HttpRequest, queue: str) -> HttpResponse:
    """Stop claiming from the queue."""
    using = _asked(viewer, queue)
    reason = _reason(request, "pause", queue)
    if not reason:
        text = _("Nothing was done: please give a reason for pausing %(queue)s.")
        say(request, messages.WARNING, text % {"queue": queue})
        return _back(viewer, request)
    try:
        with transaction.atomic(using=using):
            queues.pause(using, queue, by=viewer.user, reason=reason)
            row = Queue.objects.using(using).get(pk=queue)
            log(viewer, [row], _("Paused: %(reason)s") % {"reason": reason})
    except QueueCannotBePaused:
        text = _("The queue %(queue)s does Aftersave's own work and cannot be paused.")
        say(request, messages.WARNING, text % {"queue": queue})
    except QueueUnchanged as unchanged:
        say(request, messages.WARNING, _unchanged(queue, unchanged))
    else:
        say(request, messages.SUCCESS, _paused(viewer, row))
    return _back(viewer, request)


@post("queue/<path:queue>/resume/", "queue_resume")
def resume(viewer: Viewer, request: HttpRequest, queue: str) -> HttpResponse:
    """Claim from the queue again."""
    using = _asked(viewer, queue)
    reason = _reason(request, "resume", queue)
    seen = request.POST.get("version", "")
    try:
        with transaction.atomic(using=using):
            row = Queue.objects.using(using).select_for_update().filter(pk=queue).first()
            if row and row.paused_at and seen and seen != version(row.paused_at):
                # Resumed and paused again since: that was decided later, by somebody who knew more.
                raise QueueUnchanged(queue, paused=True, by=row.paused_by, at=row.paused_at)
            queues.resume(using, queue, by=viewer.user, reason=reason)
            text = _("Resumed: %(reason)s") if reason else _("Resumed.")
            log(viewer, [row], text % {"reason": reason})
    except QueueUnchanged as unchanged:
        say(request, messages.WARNING, _unchanged(queue, unchanged))
    else:
        text = _("The queue %(queue)s was resumed.")
        say(request, messages.SUCCESS, text % {"queue": queue})
    return _back(viewer, request)


def _asked(viewer: Viewer, queue: str) -> str:
    """The database alias, if the person may pause this queue and there is one of this name."""
    if not viewer.has("pause_queue"):
        raise PermissionDenied
    using = router.db_for_write(Queue)
    if not (is_storable(queue) and _is_known(using, queue)):
        raise Http404(_("There is no queue %(queue)s.") % {"queue": queue})
    return using


def _is_known(using: str, queue: str) -> bool:
    named = {handler.queue for handler in registry} | {aftersave_settings.DEFAULT_QUEUE}
    return (
        queue in named
        or Queue.objects.using(using).filter(pk=queue).exists()
        or Task.objects.using(using).due().filter(queue=queue).exists()
    )


def _reason(request: HttpRequest, action: str, queue: str) -> str:
    return typed(request.POST, reason_name(action, queue), "reason")


def _back(viewer: Viewer, request: HttpRequest) -> HttpResponse:
    return back(viewer, request, page_url(viewer, "overview"))


def _unchanged(queue: str, unchanged: QueueUnchanged) -> str:
    values = {"queue": queue, "who": unchanged.by or _("A program")}
    if unchanged.at is None:
        return _("The queue %(queue)s is not paused. Nothing was done.") % values
    values["ago"] = relative(unchanged.at)
    if unchanged.paused:
        return _("%(who)s paused the queue %(queue)s %(ago)s. Nothing was done.") % values
    return _("%(who)s resumed the queue %(queue)s %(ago)s. Nothing was done.") % values


def _paused(viewer: Viewer, queue: Queue) -> SafeString:
    text = _("The queue %(queue)s was paused.") % {"queue": queue.name}
    return format_html(
        '{} <button form="af-form" formaction="{}" name="version" value="{}" class="af-button">'
        "{}</button>",
        text,
        page_url(viewer, "queue_resume", queue=queue.name),
        version(queue.paused_at),
        RESUME_LABEL,
    )
