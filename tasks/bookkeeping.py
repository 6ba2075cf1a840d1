"""Failed tasks are counted in their incidents, in the transaction in which they fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.db import transaction
from django.utils import timezone

from tasks import signals
from tasks.conf import aftersave_settings
from tasks.figures import HOUR, floor
from tasks.models import Failure, Incident, IncidentHour, Task
from tasks.models.upsert import upsert
from tasks.text import clean, one_line

_RELEASE_LENGTH = 100


@dataclass(slots=True)
class _Group:
    """Tasks that failed the same way, at once."""

    type: str
    action: str
    newest: Failure
    failures: int = 0


def note_failures(using: str, failures: Sequence[Failure]) -> None:
    """Count tasks that come to the state failed in the caller's transaction, by fingerprint.

    Call it last in the transaction: it locks incidents, in the order of their fingerprints, and
    whoever locks tasks as well has locked them before.
    """
    groups = _grouped(using, [failure for failure in failures if failure.fingerprint])
    if not groups:
        return
    now = timezone.now()
    release = clean(aftersave_settings.RELEASE, _RELEASE_LENGTH)
    upsert(
        using,
        [_incident(key, groups[key], now, release) for key in sorted(groups)],
        unique=["fingerprint"],
        add=["failures"],
        replace=["exception", "message", "newest_task_id", "last_seen_at"],
    )
    # Nobody else has them now: the statement above has locked them.
    incidents = list(Incident.objects.using(using).filter(fingerprint__in=groups))
    incidents.sort(key=lambda incident: incident.fingerprint)
    hour = floor(now, HOUR)
    upsert(
        using,
        [
            IncidentHour(incident=one, hour=hour, failures=groups[one.fingerprint].failures)
            for one in incidents
        ],
        unique=["incident", "hour"],
        add=["failures"],
    )
    for incident in incidents:
        if incident.first_seen_at == now:
            _announce(using, incident, reopened=False)
        elif _is_over(incident, now):
            _reopen(using, incident, now, release)


def _grouped(using: str, failures: Sequence[Failure]) -> dict[str, _Group]:
    if not failures:
        return {}
    tasks = Task.objects.using(using).filter(pk__in={failure.task_id for failure in failures})
    names = {pk: (type_, action) for pk, type_, action in tasks.values_list("pk", "type", "action")}
    groups: dict[str, _Group] = {}
    for failure in sorted(failures, key=lambda failure: failure.task_id):
        if failure.task_id in names:
            group = groups.setdefault(
                failure.fingerprint, _Group(*names[failure.task_id], newest=failure)
            )
            group.newest = failure
            group.failures += 1
    return groups


def _incident(fingerprint: str, group: _Group, now: datetime, release: str) -> Incident:
    return Incident(
        fingerprint=fingerprint,
        type=group.type,
        action=group.action,
        exception=group.newest.exception,
        message=one_line(group.newest.message),
        failures=group.failures,
        newest_task_id=group.newest.task_id,
        first_seen_at=now,
        last_seen_at=now,
        first_release=release,
    )


def _is_over(incident: Incident, now: datetime) -> bool:
    """Whether a new failure opens it again: it was resolved, or muted until a time that passed."""
    muted_until = incident.muted_until
    return incident.status == Incident.Status.RESOLVED or (
        muted_until is not None and muted_until <= now
    )


def _reopen(using: str, incident: Incident, now: datetime, release: str) -> None:
    changes = {
        "status": Incident.Status.OPEN,
        "reopened_at": now,
        "reopened_release": release,
        "resolved_at": None,
        "muted_until": None,
        "taken_by": "",
    }
    Incident.objects.using(using).filter(pk=incident.pk).update(**changes)
    for name, value in changes.items():
        setattr(incident, name, value)
    _announce(using, incident, reopened=True)


def _announce(using: str, incident: Incident, *, reopened: bool) -> None:
    if signals.incident_opened.has_listeners():
        send = partial(
            signals.incident_opened.send_robust,
            None,
            using=using,
            incident=incident,
            reopened=reopened,
        )
        transaction.on_commit(send, using=using, robust=True)
