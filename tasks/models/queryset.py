"""Questions about tasks, as verbs of their QuerySet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

from django.db import connections, models

from tasks.models.records import record_key
from tasks.models.states import FINAL, LIVE, State
from tasks.names import split_name

if TYPE_CHECKING:
    from tasks.models.task import Task  # noqa: F401


class TaskQuerySet(models.QuerySet["Task"]):
    """Tasks; each verb narrows to those of which the question is true."""

    def due(self) -> Self:
        """Scheduled, and their time has come."""
        return self.filter(state=State.SCHEDULED, due=True)

    def later(self) -> Self:
        """Scheduled for the future, never tried yet."""
        return self.filter(state=State.SCHEDULED, due=False, attempts=0)

    def retrying(self) -> Self:
        """Scheduled for the future after at least one attempt."""
        return self.filter(state=State.SCHEDULED, due=False, attempts__gt=0)

    def waiting(self) -> Self:
        """With prerequisites that are not completed."""
        return self.filter(state=State.WAITING)

    def running(self) -> Self:
        """Claimed by a worker."""
        return self.filter(state=State.RUNNING)

    def completed(self) -> Self:
        """Done."""
        return self.filter(state=State.COMPLETED)

    def failed(self) -> Self:
        """Given up; staff can retry them."""
        return self.filter(state=State.FAILED)

    def cancelled(self) -> Self:
        """Withdrawn before they were done."""
        return self.filter(state=State.CANCELLED)

    def finished(self) -> Self:
        """In a final state."""
        return self.filter(state__in=FINAL)

    def live(self) -> Self:
        """Not in a final state."""
        return self.filter(state__in=LIVE)

    def named(self, name: str) -> Self:
        """With this task name. Raises InvalidName."""
        type_, action = split_name(name)
        return self.filter(type=type_, action=action)

    def in_queues(self, queues: Iterable[str]) -> Self:
        """In one of these queues."""
        return self.filter(queue__in=list(queues))

    def of(self, record: models.Model) -> Self:
        """Owned by ``record``, on the database this QuerySet reads."""
        content_type, object_id = record_key(record, self.db)
        return self.filter(content_type=content_type, object_id=object_id)

    def locked(self, *, skip: bool = False) -> Self:
        """Lock the rows in id order until the transaction ends; ``skip`` those locked already.

        The weakest lock that keeps writers apart: an INSERT that refers to a task does not wait.
        """
        features = connections[self.db].features
        return self.order_by("id").select_for_update(
            skip_locked=skip and features.has_select_for_update_skip_locked,
            no_key=features.has_select_for_no_key_update,
        )
