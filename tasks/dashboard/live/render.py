"""One rendering for all who see the same."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC

from django.db import router
from django.http import QueryDict
from django.utils import timezone

from tasks.dashboard.live.tickets import Ticket
from tasks.dashboard.page import Rendering, pages
from tasks.dashboard.viewer import Viewer
from tasks.models import Task
from tasks.models.clock import database_now


@dataclass(frozen=True)
class Picture:
    """What a page looked like at ``now`` (the database's time, before anything was read)."""

    now: str
    rendering: Rendering
    queues: frozenset[str] | None
    numbers_only: bool
    cost: float  # seconds of the processor


def take_picture(
    ticket: Ticket, viewer: Viewer, shown: Collection[int], *, numbers_only: bool = False
) -> Picture:
    """Render the ticket's page for ``viewer``, inside ``ticket.surroundings()``."""
    began = time.thread_time()
    kind = pages[ticket.page]
    page = kind(viewer, ticket.arguments, QueryDict(ticket.query))
    now = database_time()
    numbers_only = numbers_only and bool(kind.numbers)
    rendering = page.render(shown, numbers_only=numbers_only)
    queues = page.queues()
    wanted = None if queues is None else frozenset(queues)
    return Picture(now, rendering, wanted, numbers_only, time.thread_time() - began)


def database_of_pages() -> str:
    """The alias from which pages read tasks."""
    return router.db_for_read(Task)


def database_time() -> str:
    """The database's clock, as ISO 8601 in UTC."""
    moment = database_now(database_of_pages())
    aware = moment if moment.tzinfo else timezone.make_aware(moment)
    return aware.astimezone(UTC).isoformat(timespec="microseconds")
