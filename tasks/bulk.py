"""Bulk actions: one action on all tasks that match a search, done by a task of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, router, transaction
from django.db.models import Q

from tasks.actions import MOVES, name_of
from tasks.enqueueing import enqueue
from tasks.exceptions import BulkRefused
from tasks.models import BulkAction, Incident, Task
from tasks.models.clock import DatabaseNow
from tasks.names import OWN
from tasks.text import LONGEST_REASON, clean
from tasks.transitions import Deed, record_beside

if TYPE_CHECKING:
    from tasks.dashboard.counting import Count
    from tasks.dashboard.matching import Match
    from tasks.dashboard.viewer import Viewer

NAME = f"{OWN}.bulk"
#: Up to so many the expected number is exact.
COUNTED = 10_000
#: Tasks a second; who wants more does not throttle.
FASTEST = 10_000


@dataclass(frozen=True)
class Kind:
    """An action on many. ``states``: those it is done to unless the search names some."""

    states: tuple[str, ...]
    needs_reason: bool = False


#: What can be done in bulk. Who wants cancelled tasks retried has to say so in the search.
KINDS = {
    "retry": Kind(("failed",)),
    "run_now": Kind(MOVES["run_now"].states),
    "cancel": Kind(MOVES["cancel"].states, needs_reason=True),
    "complete": Kind(("failed",), needs_reason=True),
    "run_again": Kind(("completed",), needs_reason=True),
}


@dataclass(frozen=True)
class Plan:
    """What a bulk action would do if it was started now. Made by ``plan``."""

    viewer: Viewer
    action: str
    query: str
    match: Match

    @cached_property
    def expected(self) -> Count:
        """How many match."""
        from tasks.dashboard.counting import count

        return count(self.match, limit=COUNTED)

    def start(
        self,
        *,
        reason: str = "",
        per_second: float | None = None,
        token: UUID | None = None,
        incident: Incident | None = None,
    ) -> BulkAction:
        """See ``start``."""
        reason = clean(reason.strip(), LONGEST_REASON)
        if KINDS[self.action].needs_reason and not reason:
            raise BulkRefused("it needs a reason")
        if per_second is not None and not 0 < per_second <= FASTEST:
            raise BulkRefused(f"{per_second!r} is no number of tasks a second")
        return _begin(
            BulkAction(
                action=self.action,
                query=self.query,
                reason=reason,
                who=name_of(self.viewer.user),
                user_id=str(self.viewer.user.pk),
                site=self.viewer.site.name,
                scope=scope_of(self.viewer),
                token=token,
                expected=self.expected.number,
                expected_is_exact=self.expected.exact,
                per_second=per_second,
            ),
            self.viewer,
            incident,
        )


def plan(viewer: Viewer, action: str, query: str) -> Plan:
    """Look at what ``start`` would do. Raises PermissionDenied, and BulkRefused."""
    check_rights(viewer, action)
    match = matches(viewer, action, query)
    if match.errors:
        raise BulkRefused(" ".join(match.errors))
    return Plan(viewer, action, query.strip(), match)


def matches(viewer: Viewer, action: str, query: str, now: datetime | None = None) -> Match:
    """What ``query`` finds, in the states that ``action`` is for unless it names some itself."""
    from tasks.dashboard.matching import matching
    from tasks.dashboard.meaning import Meaning
    from tasks.dashboard.terms import CONDITIONS

    match = matching(viewer, query, now=now)
    states = KINDS[action].states
    if match.errors or match.states is not None:
        return match
    if len(states) == 1:
        narrow = matching(viewer, f"state:{states[0]}", now=now)
        return replace(
            match,
            terms=[*narrow.terms, *match.terms],
            meanings=[*narrow.meanings, *match.meanings],
        )
    condition = Q()
    for state in states:
        condition |= CONDITIONS[state]
    return replace(match, meanings=[*match.meanings, Meaning(condition=condition)])


def start(viewer: Viewer, action: str, query: str, **how: Any) -> BulkAction:
    """Do ``action`` (of ``KINDS``) to all that matches ``query`` now, in the viewer's name.

    ``reason``: required for some. ``per_second``: at most so many tasks a second. ``token``: a
    second start with it changes nothing and returns what the first one began. ``incident``: whose
    story shall tell of it. Raises PermissionDenied and BulkRefused.
    """
    return plan(viewer, action, query).start(**how)


def check_rights(viewer: Viewer, action: str) -> None:
    """Raise PermissionDenied unless the viewer may do ``action`` in bulk."""
    from tasks.dashboard.viewer import RIGHTS

    if action not in KINDS:
        raise BulkRefused(f"there is no bulk action {action!r}")
    if not (viewer.may_enter and viewer.has("bulk_task") and viewer.has(RIGHTS[action])):
        raise PermissionDenied


def scope_of(viewer: Viewer) -> str:
    """Equal for people who see the same tasks, empty for those who see all."""
    if not viewer.is_scoped:
        return ""
    return hashlib.sha256(viewer.scope.encode()).hexdigest()


def pause(bulk: BulkAction, *, by: object = None, reason: str = "") -> bool:
    """Stop before the next tasks; False if it does not run."""
    using = _alias(bulk)
    with transaction.atomic(using=using):
        row = lock(using, bulk.pk)
        if row is None or row.finished_at or row.paused_at:
            return False
        _write(using, row, paused_at=DatabaseNow())
        _record(using, row, "bulk_pause", by, reason)
    return True


def resume(bulk: BulkAction, *, by: object = None, reason: str = "") -> bool:
    """Go on where it was paused, or where its task ended before it was done; else False."""
    using = _alias(bulk)
    with transaction.atomic(using=using):
        row = lock(using, bulk.pk)
        if row is None or row.finished_at or not (row.paused_at or is_adrift(row)):
            return False
        _write(using, row, paused_at=None)
        _give_to_workers(using, row)
        _record(using, row, "bulk_resume", by, reason)
    return True


def cancel(bulk: BulkAction, *, by: object = None, reason: str = "") -> bool:
    """End it; what is done stays done. False if it has ended."""
    using = _alias(bulk)
    with transaction.atomic(using=using):
        row = lock(using, bulk.pk)
        if row is None or row.finished_at:
            return False
        _write(using, row, cancelled_at=DatabaseNow(), finished_at=DatabaseNow())
        _record(using, row, "bulk_cancel", by, reason)
    return True


def is_adrift(bulk: BulkAction) -> bool:
    """Whether its task has ended though it was neither paused nor done."""
    over = bulk.finished_at or bulk.paused_at
    return not over and (bulk.task is None or bulk.task.finished_at is not None)


def lock(using: str, bulk_id: int) -> BulkAction | None:
    """The bulk action as it is now, locked until the transaction ends."""
    # Of the row alone: with its task a join would be locked too.
    return BulkAction.objects.using(using).select_for_update().filter(pk=bulk_id).first()


def _begin(bulk: BulkAction, viewer: Viewer, incident: Incident | None) -> BulkAction:
    from tasks.dashboard.log import log

    using = router.db_for_write(Task)
    with transaction.atomic(using=using):
        if not _insert(using, bulk):
            return BulkAction.objects.using(using).get(token=bulk.token)
        _give_to_workers(using, bulk)
        _record(using, bulk, "bulk_start", viewer.user, bulk.reason, incident)
        text = f"{bulk.action}: {bulk.query}"
        log(viewer, [bulk], f"{text} ({bulk.reason})" if bulk.reason else text)
    return bulk


def _insert(using: str, bulk: BulkAction) -> bool:
    """Write the row; False if the form it comes from has started one already."""
    newest = Task.objects.using(using).order_by("-pk").values_list("pk", flat=True).first()
    bulk.highest_id = newest or 0
    # What failed later did not match: times are those of the database, as finished_at is.
    bulk.created_at = DatabaseNow()
    try:
        with transaction.atomic(using=using):
            bulk.save(using=using, force_insert=True)
    except IntegrityError:
        if not BulkAction.objects.using(using).filter(token=bulk.token).exists():
            raise
        return False
    bulk.refresh_from_db(using=using, fields=["created_at"])
    return True


def _give_to_workers(using: str, bulk: BulkAction) -> None:
    bulk.task = enqueue(NAME, {"bulk": bulk.pk}, using=using)
    _write(using, bulk, task=bulk.task)


def _write(using: str, bulk: BulkAction, **columns: object) -> None:
    BulkAction.objects.using(using).filter(pk=bulk.pk).update(**columns)


def _record(
    using: str,
    bulk: BulkAction,
    action: str,
    by: object,
    reason: str,
    incident: Incident | None = None,
) -> None:
    deed = Deed(action=action, who=name_of(by), reason=reason, incident=incident)
    record_beside(using, deed, about=bulk)


def _alias(bulk: BulkAction) -> str:
    return bulk._state.db or "default"
