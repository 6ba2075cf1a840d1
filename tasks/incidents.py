"""Incidents: what staff decide about tasks that failed the same way, and when one is over.

Failures are counted by ``tasks.bookkeeping``, where tasks fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from tasks import actions, page_bell
from tasks.exceptions import TransitionRefused, UniqueKeyTaken
from tasks.figures import HOUR, floor
from tasks.models import (
    FINAL,
    LIVE,
    Failure,
    Incident,
    IncidentHour,
    State,
    Task,
    TaskEvent,
    TaskQuerySet,
)
from tasks.text import LONGEST_REASON, clean
from tasks.transitions import Deed, lock, record_beside

_LINK_LENGTH = 500
_TRIES = 10
_AT_ONCE = 200
#: A failure is older than the moment at which it was counted; outcomes may wait for their database.
_COUNTED_LATE = timedelta(hours=1)
_ACTIVE = (Incident.Status.OPEN, Incident.Status.TAKEN)


@dataclass(frozen=True)
class Trial:
    """One task of an incident that was tried again before the others.

    ``state``: its ``shown_state`` now, ``gone`` when the row was deleted since.
    """

    event: TaskEvent
    task: Task | None

    @property
    def state(self) -> str:
        """What the task is doing."""
        return self.task.shown_state if self.task else "gone"

    @property
    def is_over(self) -> bool:
        """Whether it is known what came of it."""
        return self.task is None or self.task.state in FINAL

    @property
    def succeeded(self) -> bool:
        """Whether the others are worth a try, too."""
        return self.task is not None and self.task.state == State.COMPLETED


def failed_tasks(incident: Incident, among: TaskQuerySet | None = None) -> TaskQuerySet:
    """Its tasks that are still failed, newest first; ``among``: only of those."""
    tasks = Task.objects.using(_alias(incident)) if among is None else among
    return _failed_with(incident.fingerprint, tasks).order_by("-fingerprint", "-id")


def _failed_with(fingerprint: Any, tasks: TaskQuerySet) -> TaskQuerySet:
    # Not by equality: ordered by the id alone, a planner may walk all failed tasks there are to
    # find the first of a rare fingerprint. This order has only the index tasks_fingerprint.
    return tasks.failed().filter(fingerprint__gte=fingerprint, fingerprint__lte=fingerprint)


def hours(
    using: str, incidents: Collection[Incident], *, since: datetime, until: datetime
) -> dict[int, list[int]]:
    """For each incident's id how many tasks failed, hour by hour from ``since`` on."""
    first = int(floor(since, HOUR).timestamp())
    count = max(0, -((first - int(until.timestamp())) // HOUR))
    found = {incident.pk: [0] * count for incident in incidents}
    rows = IncidentHour.objects.using(using).filter(
        incident__in=list(found), hour__gte=floor(since, HOUR), hour__lt=until
    )
    for pk, hour, failures in rows.values_list("incident_id", "hour", "failures"):
        found[pk][(int(hour.timestamp()) - first) // HOUR] = failures
    return found


# Each of these is one guarded UPDATE. True: it was done, and is a TaskEvent. False: the incident
# had moved on, and nothing was changed. Either way ``incident`` is what is stored now.


def take(incident: Incident, *, by: object) -> bool:
    """Say that ``by`` deals with it."""
    free = Q(status__in=(Incident.Status.OPEN, Incident.Status.MUTED))
    changes = {"status": Incident.Status.TAKEN, "taken_by": actions.name_of(by)}
    return _change(incident, "incident_take", by, free, **changes, muted_until=None)


def release(incident: Incident, *, by: object) -> bool:
    """Say that nobody deals with it any more."""
    taken = Q(status=Incident.Status.TAKEN)
    return _change(
        incident, "incident_release", by, taken, status=Incident.Status.OPEN, taken_by=""
    )


def mute(incident: Incident, *, by: object, until: datetime, reason: str = "") -> bool:
    """Send no alerts and stay quiet until then, whatever fails. Raises ValueError for the past."""
    if until <= timezone.now():
        raise ValueError("An incident is muted until a time in the future.")
    changes = {"status": Incident.Status.MUTED, "taken_by": "", "muted_until": until}
    unresolved = ~Q(status=Incident.Status.RESOLVED)
    return _change(incident, "incident_mute", by, unresolved, reason=reason, **changes)


def unmute(incident: Incident, *, by: object) -> bool:
    """Be open again before the time."""
    muted = Q(status=Incident.Status.MUTED)
    changes: dict[str, Any] = {"status": Incident.Status.OPEN, "muted_until": None}
    return _change(incident, "incident_unmute", by, muted, **changes)


def resolve(incident: Incident, *, by: object, reason: str = "") -> bool:
    """Close it though tasks are still failed. The next failure opens it again."""
    unresolved = ~Q(status=Incident.Status.RESOLVED)
    changes = {"status": Incident.Status.RESOLVED, "resolved_at": timezone.now()}
    return _change(
        incident, "incident_resolve", by, unresolved, reason=reason, **changes, muted_until=None
    )


def note(incident: Incident, *, by: object, text: str, link: str = "") -> bool:
    """Keep a note and a link. Raises ValueError for a link that is no http(s) address."""
    link = link.strip()
    if link and (not re.match(r"https?://[^\s]+$", link) or len(link) > _LINK_LENGTH):
        raise ValueError("A link starts with http:// or https:// and has at most 500 characters.")
    text = clean(text, LONGEST_REASON)
    return _change(incident, "incident_note", by, Q(), reason=text, note=text, link=link)


def _change(
    incident: Incident, action: str, by: object, where: Q, *, reason: str = "", **columns: Any
) -> bool:
    using = _alias(incident)
    with transaction.atomic(using=using):
        rows = Incident.objects.using(using).filter(where, pk=incident.pk)
        won = rows.update(**columns) == 1
        if won:
            deed = Deed(action=action, who=actions.name_of(by), reason=reason, incident=incident)
            record_beside(using, deed)
    incident.refresh_from_db(using=using)
    return won


def try_one(
    incident: Incident,
    *,
    by: object,
    among: TaskQuerySet | None = None,
    may: Callable[[Task], bool] | None = None,
) -> Task | None:
    """Retry the newest failed task to see whether it works now; None if none can be retried.

    ``among``: only one of those. ``may``: whether ``by`` may retry this one.
    """
    with transaction.atomic(using=_alias(incident)):
        for task in lock_newest(incident, among):
            if may is not None and not may(task):
                continue
            try:
                actions.retry(task, by=by, incident=incident)
            except (TransitionRefused, UniqueKeyTaken, Task.DoesNotExist):
                continue  # somebody was faster, or has its key
            return task
    return None


def lock_newest(incident: Incident, among: TaskQuerySet | None = None) -> list[Task]:
    """Its newest tasks that are still failed, newest first, locked at once with what retrying them
    touches. Who locks the incident, too, does it after that, as the bookkeeping does."""
    newest = failed_tasks(incident, among).values_list("pk", flat=True)[:_TRIES]
    rows = lock(_alias(incident), list(newest), actions.MOVES["retry"])
    return [row for _, row in sorted(rows.items(), reverse=True) if row.state == State.FAILED]


def trial(incident: Incident) -> Trial | None:
    """The last task that was tried before the others since the incident was opened."""
    events = TaskEvent.objects.using(_alias(incident)).filter(
        incident=incident,
        task__isnull=False,
        bulk__isnull=True,
        at__gte=incident.reopened_at or incident.first_seen_at,
    )
    event = events.select_related("task").order_by("-id").first()
    return Trial(event, event.task) if event else None


def refresh(using: str, now: datetime | None = None) -> int:
    """End mutes whose time is over, and resolve incidents that are; returns how many of these.

    An incident is over when no task of it is failed any more, and those retried by hand have
    ended, too.
    """
    now = now or timezone.now()
    incidents = Incident.objects.using(using)
    # The time stays, so that the next failure is news.
    muted = incidents.filter(status=Incident.Status.MUTED, muted_until__lte=now)
    changed = muted.update(status=Incident.Status.OPEN)
    over = without_failed(incidents.filter(status__in=_ACTIVE)).order_by("last_seen_at")[:_AT_ONCE]
    resolved = sum(_resolve(using, incident, now) for incident in over if not _is_tried(incident))
    if changed or resolved:
        page_bell.changed_after_commit(using, [page_bell.ANY])
    return resolved


def without_failed(incidents: QuerySet[Incident]) -> QuerySet[Incident]:
    """Those of which no task is failed any more; one probe of an index for each."""
    # No Exists: a planner may join that with all failed tasks there are.
    failed = _failed_with(OuterRef("fingerprint"), Task.objects.all())
    first = Subquery(failed.order_by("fingerprint", "id").values("pk")[:1])
    return incidents.annotate(left=first).filter(left__isnull=True)


def _is_tried(incident: Incident) -> bool:
    """Whether a task that was retried by hand has not ended yet."""
    opened = incident.reopened_at or incident.first_seen_at
    failures = Failure.objects.using(_alias(incident)).filter(
        fingerprint=incident.fingerprint,
        at__gte=opened - _COUNTED_LATE,
        task__state__in=LIVE,
        task__context__has_key="max_attempts",
    )
    return failures.exists()


def _resolve(using: str, incident: Incident, now: datetime) -> int:
    # The count: one more may have failed since we looked.
    same = Incident.objects.using(using).filter(
        pk=incident.pk, status__in=_ACTIVE, failures=incident.failures
    )
    return same.update(status=Incident.Status.RESOLVED, resolved_at=now, muted_until=None)


def _alias(incident: Incident) -> str:
    return incident._state.db or "default"
