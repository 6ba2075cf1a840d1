"""The buttons of incidents: taking, muting, resolving, trying one task and then the rest."""

from __future__ import annotations

from functools import partial

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import router, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _

from tasks import bulk, incidents
from tasks.dashboard.incident_buttons import (
    BUTTONS,
    MUTES,
    RATES,
    Button,
    rate_name,
    version,
)
from tasks.dashboard.incident_facts import Facts
from tasks.dashboard.log import log
from tasks.dashboard.page import back, page_url, post, say
from tasks.dashboard.typed import typed
from tasks.dashboard.viewer import Viewer
from tasks.exceptions import BulkRefused
from tasks.models import Incident, Task
from tasks.redact import redact_text


class _NotDone(Exception):
    """Nothing was changed; the message is for the person."""


def _press(viewer: Viewer, request: HttpRequest, incident_id: int, name: str) -> HttpResponse:
    button = BUTTONS[name]
    using = _asked(viewer, incident_id, "manage_incident").using
    try:
        with transaction.atomic(using=using):
            # Locked: of two who saw the same only one may decide.
            rows = Incident.objects.using(using).select_for_update()
            incident = get_object_or_404(rows, pk=incident_id)
            if request.POST.get("version") != version(incident):
                raise _NotDone(_moved_on(incident))
            if not _do(viewer, request, button, incident):
                raise _NotDone(_moved_on(incident))
            log(viewer, [incident], _told(request, button, incident))
    except _NotDone as refused:
        say(request, messages.WARNING, str(refused))
    else:
        say(request, messages.SUCCESS, str(button.done))
    return _back(viewer, request, incident_id)


def _told(request: HttpRequest, button: Button, incident: Incident) -> str:
    reason = "" if button.asks == "nothing" else _typed(request, incident, "reason", button)
    return f"{button.label}: {reason}" if reason else str(button.label)


def _do(viewer: Viewer, request: HttpRequest, button: Button, incident: Incident) -> bool:
    by = viewer.user
    if button.asks == "nothing":
        done: bool = getattr(incidents, button.name)(incident, by=by)
        return done
    text = _typed(request, incident, "reason", button)
    if button.asks == "until":
        length, _label = MUTES.get(_typed(request, incident, "until", button), MUTES["1h"])
        return incidents.mute(incident, by=by, until=timezone.now() + length, reason=text)
    if button.asks == "note":
        try:
            link = _typed(request, incident, "link", button)
            text, link = _kept(text, incident.note), _kept(link, incident.link)
            return incidents.note(incident, by=by, text=text, link=link)
        except ValueError:
            text = _("Nothing was kept: a link begins with http:// or https://, without blanks.")
            raise _NotDone(text) from None
    return incidents.resolve(incident, by=by, reason=text)


for _button in BUTTONS.values():
    _path = f"incidents/<int:incident_id>/{_button.name}/"
    post(_path, _button.path)(partial(_press, name=_button.name))


@post("incidents/<int:incident_id>/try/", "incident_try")
def try_one(viewer: Viewer, request: HttpRequest, incident_id: int) -> HttpResponse:
    """Retry the newest failed task; the page follows it."""
    facts = _asked(viewer, incident_id, "manage_incident", "retry_task")
    try:
        tried = _try_one(viewer, facts, seen=request.POST.get("version"))
    except _NotDone as refused:
        say(request, messages.WARNING, str(refused))
    else:
        url = page_url(viewer, "change", task_id=tried.pk)
        text = _("%(task)s is tried again. What comes of it appears here.")
        link = format_html('<a href="{}">{} #{}</a>', url, tried.title, tried.pk)
        say(request, messages.SUCCESS, format_html(text.replace("%(task)s", "{}"), link))
    return _back(viewer, request, incident_id)


def _try_one(viewer: Viewer, facts: Facts, *, seen: str | None) -> Task:
    """Retry one; of two who press at once, the second is told.

    Raises _NotDone, and PermissionDenied where one is failed, but none that the viewer may retry.
    """
    candidates = viewer.tasks.using(facts.using)
    refused: list[Task] = []

    def may(task: Task) -> bool:
        if viewer.may("retry", task):
            return True
        refused.append(task)
        return False

    with transaction.atomic(using=facts.using):
        newest = [task.pk for task in incidents.lock_newest(facts.incident, candidates)]
        Incident.objects.using(facts.using).select_for_update().get(pk=facts.incident.pk)
        if seen != facts.trial_version:
            raise _NotDone(_tried_meanwhile(facts))
        candidates = candidates.filter(pk__in=newest)
        tried = incidents.try_one(facts.incident, by=viewer.user, among=candidates, may=may)
        if tried is None and refused:
            raise PermissionDenied
        if tried is None:
            raise _NotDone(_("Nothing was done: no task of this incident is failed any more."))
        log(viewer, [tried], _("Retried before the others of its incident."))
    return tried


def _tried_meanwhile(facts: Facts) -> str:
    if facts.trial is None:
        return _("Nothing was done: this incident has changed since the page was loaded.")
    text = _("Nothing was done: %(who)s has tried one meanwhile.")
    return text % {"who": facts.trial.event.who or _("somebody")}


@post("incidents/<int:incident_id>/rest/", "incident_rest")
def retry_rest(viewer: Viewer, request: HttpRequest, incident_id: int) -> HttpResponse:
    """Retry all others, once, after the one that was tried completed."""
    facts = _asked(viewer, incident_id, "manage_incident", "retry_task", "bulk_task")
    incident = facts.incident
    if facts.trial is None or not facts.trial.succeeded:
        text = _("Nothing was done: first one task must be tried, and complete.")
        say(request, messages.WARNING, text)
        return _back(viewer, request, incident_id)
    if facts.rest is not None:
        text = _("The others are being retried already.")
        if facts.rest_is_over:
            text = _("The others were retried already: try another one first.")
        say(request, messages.WARNING, text)
        return HttpResponseRedirect(page_url(viewer, "bulk", bulk_id=facts.rest.pk))
    if facts.rest_is_many:
        text = _("Nothing was done: so many are retried from the preview of a bulk action.")
        say(request, messages.WARNING, text)
        return _back(viewer, request, incident_id)
    try:
        started = bulk.start(
            viewer,
            "retry",
            facts.search,
            reason=_("One task of incident %(number)s was tried and completed.")
            % {"number": incident.pk},
            per_second=_rate(request, incident),
            token=facts.rest_token,
            incident=incident,
        )
    except BulkRefused as refused:
        say(request, messages.WARNING, str(refused))
        return _back(viewer, request, incident_id)
    return HttpResponseRedirect(page_url(viewer, "bulk", bulk_id=started.pk))


def _rate(request: HttpRequest, incident: Incident) -> float | None:
    chosen = request.POST.get(rate_name(incident), "")
    known = {str(rate): rate for rate in RATES}
    return known.get(chosen) or None


def _asked(viewer: Viewer, incident_id: int, *rights: str) -> Facts:
    """What the viewer may know of the incident. Raises PermissionDenied, Http404."""
    if not all(viewer.has(right) for right in rights):
        raise PermissionDenied
    try:
        # Where it is written: a replica may not know yet what others decided.
        incidents = Incident.objects.using(router.db_for_write(Task))
        return Facts(viewer, incidents.get(pk=incident_id))
    except Incident.DoesNotExist:
        text = _("There is no incident %(number)s (any more).") % {"number": incident_id}
        raise Http404(text) from None


def _typed(request: HttpRequest, incident: Incident, field: str, button: Button) -> str:
    return typed(request.POST, f"{field}-{button.name}-{incident.pk}", field)


def _kept(text: str, stored: str) -> str:
    """``text``; what is ``stored`` where that stands in the form, without its secrets."""
    return stored if text == redact_text(stored) else text


def _moved_on(incident: Incident) -> str:
    who = incident.taken_by
    if incident.status == Incident.Status.TAKEN and who:
        text = _("Nothing was done: %(who)s has taken this incident meanwhile.")
        return text % {"who": who}
    text = _("Nothing was done: this incident has changed meanwhile. It is %(state)s.")
    return text % {"state": Incident.Status(incident.status).label}


def _back(viewer: Viewer, request: HttpRequest, incident_id: int) -> HttpResponse:
    return back(viewer, request, page_url(viewer, "incident", incident_id=incident_id))
