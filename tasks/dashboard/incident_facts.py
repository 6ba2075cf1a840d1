"""One incident as its page shows it: what went wrong, what to do, and what somebody tried."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from tasks import incidents
from tasks.bulk import scope_of
from tasks.dashboard import probes
from tasks.dashboard.display import exact, shown_text, time_html
from tasks.dashboard.incident_events import EVENTS_SHOWN, ShownEvent, shown_events
from tasks.dashboard.incident_rows import (
    MOST_FAILED,
    Described,
    Spark,
    message_of,
    newest_visible,
    spark,
)
from tasks.dashboard.numbers import more_than, number
from tasks.dashboard.viewer import Viewer
from tasks.handlers import Handler, registry
from tasks.models import BulkAction, Failure, Incident, Task, TaskEvent
from tasks.redact import redact_text

TASKS_SHOWN = 10
#: Above it the others are retried from the preview of bulk actions, where the number is typed.
SMALL = 1000
_DAYS_SHOWN = 7
_REST = uuid.UUID("0a6c6f0e-6a05-4d0d-9d6c-7a9f6f9a2b11")


class Facts(Described):
    """What one viewer may know of ``incident``; each fact is asked for once.

    Raises Incident.DoesNotExist where none of its tasks is visible.
    """

    def __init__(self, viewer: Viewer, incident: Incident) -> None:
        self.viewer = viewer
        self.incident = incident
        self.using = incident._state.db or viewer.tasks.db
        self.newest = newest_visible(viewer, [incident])[0]
        if viewer.is_scoped and self.newest is None:
            raise Incident.DoesNotExist

    @property
    def note(self) -> str:
        """What staff noted, redacted."""
        return redact_text(self.incident.note)

    @property
    def link(self) -> str:
        """What staff linked, redacted, if it is an address of a page and nothing that would run."""
        link = redact_text(self.incident.link)
        return link if link.startswith(("http://", "https://")) else ""

    @property
    def message(self) -> str:
        """What went wrong last, redacted."""
        if self.viewer.is_scoped:
            return message_of(self.newest.reason if self.newest else "")
        return message_of(self.incident.message)

    @property
    def handler(self) -> Handler | None:
        """What performs its tasks, with advice for people."""
        return registry.get(self.incident.name)

    @cached_property
    def failed(self) -> int:
        """How many of its tasks are failed now, counted up to ``MOST_FAILED``."""
        return probes.counts([self._failed], MOST_FAILED)[0]

    @property
    def failed_text(self) -> str:
        """``failed`` for people."""
        return more_than(self.failed, MOST_FAILED)

    @property
    def search(self) -> str:
        """What finds its failed tasks in the list."""
        return f"incident:{self.incident.pk}"

    @property
    def _failed(self) -> Any:
        return incidents.failed_tasks(self.incident, among=self.viewer.tasks)

    # The figures, which are over all tasks

    @property
    def ever(self) -> str:
        """How many failures there have been."""
        return "" if self.viewer.is_scoped else number(self.incident.failures)

    @property
    def first(self) -> SafeString | str:
        """When it was first seen."""
        return "" if self.viewer.is_scoped else time_html(self.incident.first_seen_at)

    @property
    def last(self) -> SafeString:
        """When a task failed this way last."""
        if self.viewer.is_scoped and self.newest is not None:
            return time_html(self.newest.finished_at)
        return time_html(self.incident.last_seen_at)

    @property
    def reopened(self) -> SafeString | str:
        """Since when it is open again."""
        if self.viewer.is_scoped or self.incident.reopened_at is None:
            return ""
        return time_html(self.incident.reopened_at)

    @property
    def resolved(self) -> SafeString | str:
        """When it was resolved, by somebody or by itself."""
        if self.viewer.is_scoped or self.incident.resolved_at is None:
            return ""
        return time_html(self.incident.resolved_at)

    @cached_property
    def spark(self) -> Spark | None:
        """Failures in each hour of the last week."""
        if self.viewer.is_scoped:
            return None
        since = timezone.now() - timedelta(days=_DAYS_SHOWN, hours=-1)
        hours = incidents.hours(self.using, [self.incident], since=since, until=timezone.now())
        return spark(hours.get(self.incident.pk, []), bar=4)

    # The newest failure

    @cached_property
    def failure(self) -> Failure | None:
        """How the newest task failed this way last: since then it may have failed in another."""
        if self.newest is None:
            return None
        same = self.newest.failures.filter(fingerprint=self.incident.fingerprint)
        return same.order_by("-id").first()

    @property
    def traceback(self) -> str:
        """Its traceback, for those who may see data."""
        if not self.viewer.sees_data or self.failure is None:
            return ""
        return shown_text(self.failure.traceback)

    @cached_property
    def tasks(self) -> list[Task]:
        """The newest failed tasks."""
        return list(self._failed.defer("data", "result")[:TASKS_SHOWN])

    # What people did

    @cached_property
    def events(self) -> list[ShownEvent]:
        """What staff did about it, newest first."""
        return shown_events(self.viewer, self.incident)

    @cached_property
    def trial(self) -> incidents.Trial | None:
        """The task that was tried last, if the viewer may know of it."""
        found = incidents.trial(self.incident)
        if found is None or found.task is None:
            return None
        if self.viewer.is_scoped and not self.viewer.tasks.filter(pk=found.task.pk).exists():
            return None
        return found

    @property
    def trial_version(self) -> str:
        """Changes with each trial, so that a button pressed twice tries one."""
        return str(self.trial.event.pk) if self.trial else "0"

    @cached_property
    def trial_message(self) -> str:
        """Why the tried task failed again, in one sentence; empty if it did not."""
        tried = self.trial.task if self.trial else None
        if tried is None:
            return ""
        if tried.reason:
            return message_of(tried.reason)
        # It is tried again by itself: only its failures say why.
        before = tried.max_attempts - tried.context.get("max_attempts", tried.max_attempts)
        failure = tried.failures.filter(attempt__gt=before).order_by("-id").first()
        if failure is None:
            return ""
        return message_of(f"{failure.exception.rpartition('.')[2]}: {failure.message}")

    @cached_property
    def elsewhere(self) -> Incident | None:
        """The incident that the tried task belongs to now, when it failed in another way."""
        tried = self.trial.task if self.trial else None
        if tried is None or tried.fingerprint in ("", self.incident.fingerprint):
            return None
        return Incident.objects.using(self.using).filter(fingerprint=tried.fingerprint).first()

    @cached_property
    def rest(self) -> BulkAction | None:
        """The bulk action that retries, or has retried, the others since the trial.

        One that was cancelled or stopped, or that saw other tasks than the viewer, is none.
        """
        for event in self._bulks_since:
            bulk: BulkAction = event.about
            ended_early = bulk.cancelled_at or bulk.stopped_because
            if not ended_early and bulk.scope == scope_of(self.viewer):
                return bulk
        return None

    @cached_property
    def _bulks_since(self) -> list[Any]:
        """Events of the retries of the others since the trial, newest first."""
        if self.trial is None:
            return []
        events = TaskEvent.objects.using(self.using).filter(
            incident=self.incident,
            about__action="retry",
            action="bulk_start",
            id__gt=self.trial.event.pk,
        )
        return list(events.select_related("about").order_by("-id")[:EVENTS_SHOWN])

    @property
    def rest_is_over(self) -> bool:
        """Whether the others were retried."""
        return self.rest is not None and self.rest.finished_at is not None

    @property
    def rest_is_many(self) -> bool:
        """Whether so many are left that their number must be typed."""
        return self.failed > SMALL

    @property
    def rest_token(self) -> uuid.UUID | None:
        """The same for all who see this of the trial: the others are retried once."""
        if self.trial is None:
            return None
        last = self._bulks_since[0].about_id if self._bulks_since else 0
        return uuid.uuid5(_REST, f"{self.trial.event.pk} {last} {scope_of(self.viewer)}")


def ticket(facts: Facts, address: str) -> str:
    """What *Copy for a ticket* copies: plain text, redacted."""
    incident = facts.incident
    last = facts.newest.finished_at if facts.viewer.is_scoped and facts.newest else None
    lines = [
        f"{facts.title} ({incident.name})",
        f"{facts.exception}: {facts.message}",
        _("Failed now: %(failed)s") % {"failed": facts.failed_text},
        _("Last seen: %(time)s") % {"time": exact(last or incident.last_seen_at)},
        address,
    ]
    if not facts.viewer.is_scoped:
        first = _("First seen: %(time)s") % {"time": exact(incident.first_seen_at)}
        release = incident.first_release
        lines.insert(3, f"{first} ({release})" if release else first)
    return "\n".join([*lines, "", facts.traceback]).strip()
