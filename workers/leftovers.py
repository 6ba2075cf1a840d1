"""Pruning what is beside the tasks: roll-ups, alerts, incidents that are over, what staff did.

All of it by AFTERSAVE["KEEP_FIGURES"], a limited number of rows each time. What belongs to a task
(failures, log, events, search keys) goes with the task.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from tasks.conf import aftersave_settings
from tasks.incidents import without_failed
from tasks.models import Alert, BulkAction, Incident, IncidentHour, TaskEvent
from tasks.summing import prune_figures

AT_ONCE = 1000
#: An alert is remembered for longer than its cause can be news.
KEEP_ALERTS = timedelta(days=7)
_OF_A_QUEUE = ("task__isnull", "incident__isnull", "bulk__isnull", "about__isnull")


def prune(using: str, now: datetime | None = None) -> int:
    """Delete what is past its time; returns how many rows went."""
    now = now or timezone.now()
    deleted = prune_figures(using, now)
    deleted += _delete(Alert.objects.using(using).filter(at__lt=now - KEEP_ALERTS))
    keep = aftersave_settings.KEEP_FIGURES
    if keep is not None:
        for rows in _past(using, now - keep):
            deleted += _delete(rows)
    return deleted


def _past(using: str, cutoff: datetime) -> tuple[QuerySet[Any], ...]:
    events = TaskEvent.objects.using(using)
    resolved = Incident.objects.using(using).filter(
        status=Incident.Status.RESOLVED, last_seen_at__lt=cutoff
    )
    # Events of tasks go with their tasks; until then the bulk action they name must stay.
    named = TaskEvent.objects.filter(bulk=OuterRef("pk"))
    bulk = BulkAction.objects.using(using).filter(~Exists(named), finished_at__lt=cutoff)
    return (
        IncidentHour.objects.using(using).filter(hour__lt=cutoff),
        events.filter(at__lt=cutoff, **dict.fromkeys(_OF_A_QUEUE, True)),
        without_failed(resolved),
        bulk,
    )


def _delete(rows: QuerySet[Any]) -> int:
    skip = connections[rows.db].features.has_select_for_update_skip_locked
    with transaction.atomic(using=rows.db):
        # Locked: an incident that is opened again in this moment is none of them any more.
        found = rows.order_by("pk").select_for_update(skip_locked=skip)
        ids = list(found.values_list("pk", flat=True)[:AT_ONCE])
        if ids:
            rows.model._default_manager.using(rows.db).filter(pk__in=ids).delete()
    return len(ids)
