"""Which queues have a live worker, and what starts one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import DateTimeField, ExpressionWrapper, Q, Value

from tasks.conf import aftersave_settings
from tasks.models import Worker
from tasks.models.clock import DatabaseNow
from tasks.names import OWN


@dataclass(frozen=True)
class Serving:
    """Which queues live workers serve; ``every`` when one of them serves all."""

    queues: frozenset[str] = frozenset()
    every: bool = False
    any_worker: bool = False

    @classmethod
    def by(cls, served: Iterable[Sequence[str]]) -> Serving:
        """What live workers with these ``queues`` serve; an empty list stands for every queue."""
        known = list(served)
        return cls(
            queues=frozenset(queue for queues in known for queue in queues),
            every=not all(known),
            any_worker=bool(known),
        )

    def serves(self, queue: str) -> bool:
        """Whether a live worker claims from ``queue``."""
        return self.every or queue in self.queues or (queue == OWN and self.any_worker)


def serving(using: str) -> Serving:
    """Which queues are served now."""
    living = Worker.objects.using(using).filter(lives())
    return Serving.by(living.values_list("queues", flat=True))


def lives() -> Q:
    """Whether a worker lives; one that is silent too long counts as dead."""
    oldest = seconds_ago(aftersave_settings.HEARTBEAT_LIMIT)
    return Q(stopped_at__isnull=True, lost_at__isnull=True, heartbeat_at__gte=oldest)


def seconds_ago(seconds: float) -> ExpressionWrapper[Any]:
    """That moment, by the clock of the database."""
    ago = DatabaseNow() - Value(timedelta(seconds=seconds))
    return ExpressionWrapper(ago, output_field=DateTimeField())


def worker_command(queue: str | None, using: str) -> str:
    """What starts a worker for ``queue``, or for every queue, on the database ``using``."""
    queues = "" if queue is None else f" --queues {shlex.quote(queue)}"
    database = "" if using == DEFAULT_DB_ALIAS else f" --database {shlex.quote(using)}"
    return f"python manage.py runworker{queues}{database}"
