"""Pausing and resuming queues. While a queue is paused nothing of it is claimed."""

from __future__ import annotations

from django.db import transaction

from tasks import bell
from tasks.actions import name_of
from tasks.exceptions import QueueCannotBePaused, QueueUnchanged
from tasks.models import Queue, TaskEvent
from tasks.models.clock import database_now
from tasks.names import OWN
from tasks.text import LONGEST_REASON, clean
from tasks.transitions import Deed, record_beside


def pause(using: str, queue: str, *, by: object = None, reason: str = "") -> TaskEvent:
    """Stop claiming from ``queue``; what runs goes on. Makes the row of the queue if it has none.

    Raises QueueCannotBePaused for Aftersave's own queue, and QueueUnchanged when it is paused.
    """
    if queue == OWN:
        raise QueueCannotBePaused(queue)
    with transaction.atomic(using=using):
        row = _locked(using, queue)
        if row.paused_at:
            raise QueueUnchanged(queue, paused=True, by=row.paused_by, at=row.paused_at)
        row.paused_at = database_now(using)
        row.paused_by, row.paused_reason = name_of(by), clean(reason, LONGEST_REASON)
        row.save(using=using)
        return record_beside(using, _deed("pause", by, reason), queue=queue)


def resume(using: str, queue: str, *, by: object = None, reason: str = "") -> TaskEvent:
    """Claim from ``queue`` again; its workers are rung. Raises QueueUnchanged if it goes on."""
    with transaction.atomic(using=using):
        row = _locked(using, queue)
        if not row.paused_at:
            last = TaskEvent.objects.using(using).filter(queue=queue, bulk=None).last()
            resumed = last if last and last.action == "resume" else None
            raise QueueUnchanged(
                queue,
                paused=False,
                by=resumed.who if resumed else "",
                at=resumed.at if resumed else None,
            )
        row.paused_at, row.paused_by, row.paused_reason = None, "", ""
        row.save(using=using)
        bell.ring_after_commit(using, {queue})
        return record_beside(using, _deed("resume", by, reason), queue=queue)


def _locked(using: str, queue: str) -> Queue:
    queues = Queue.objects.using(using)
    queues.bulk_create([Queue(name=queue)], ignore_conflicts=True)
    return queues.select_for_update().get(pk=queue)


def _deed(action: str, by: object, reason: str) -> Deed:
    return Deed(action=action, who=name_of(by), reason=reason)
