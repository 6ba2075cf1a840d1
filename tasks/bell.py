"""Ringing workers after a commit. A ring has no content to trust: the database is the truth."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from asgiref.sync import async_to_sync
from django.db import connections

from tasks.after_commit import call_after_commit
from tasks.conf import aftersave_settings
from tasks.layer import crossing_layer

logger = logging.getLogger(__name__)

CHANNEL = "aftersave_work"
GROUP = "aftersave.work"
#: After a ring for a queue this process stays silent about it for so many seconds.
SILENCE = 0.020
#: So a worker that heard a ring looks once more after this many seconds.
LOOK_AGAIN = 0.025
#: Without waiting for the disk: what must not be lost was committed before.
NOTIFY = "SELECT pg_notify(%s, %s), set_config('synchronous_commit', 'off', true)"
_LONGEST_PAYLOAD = 7000

_last_rung: dict[tuple[str, str], float] = {}


def ring_after_commit(using: str, queues: Iterable[str]) -> None:
    """Tell workers of ``using``, once its transaction commits, that ``queues`` have due work.

    No queue: a task becomes due soon, look at the clock again. Nothing raises into the host.
    """
    call_after_commit(using, ring, set(queues) or {""})


def ring(using: str, queues: Iterable[str]) -> None:
    """Ring now, outside any transaction. Fails silently: polling finds the work a moment later."""
    now = time.monotonic()
    loud = [q for q in queues if now - _last_rung.get((using, q), -1.0) >= SILENCE]
    if not loud:
        return
    _last_rung.update({(using, queue): now for queue in loud})
    try:
        _send(using, loud)
    except Exception:
        logger.warning("Ringing the workers of %r failed; they poll.", using, exc_info=True)


def _send(using: str, queues: list[str]) -> None:
    connection = connections[using]
    if connection.vendor == "postgresql" and aftersave_settings.session_alias(using):
        payload = ",".join(queues)
        if len(payload.encode()) > _LONGEST_PAYLOAD:
            payload = "*"
        with connection.cursor() as cursor:
            cursor.execute(NOTIFY, [CHANNEL, payload])
        return
    layer = crossing_layer()
    if layer is not None:
        async_to_sync(layer.group_send)(
            GROUP, {"type": "aftersave.ring", "using": using, "queues": queues}
        )
