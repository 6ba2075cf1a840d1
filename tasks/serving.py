"""Which queues have a live worker, and what starts one."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import DateTimeField, ExpressionWrapper, Value

from tasks.conf import aftersave_settings
from tasks.handlers import OWN
from tasks.models import Worker
from tasks.models.clock import DatabaseNow


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
    """Ask for the workers that live; one that is silent too long counts as dead."""
    limit = Value(timedelta(seconds=aftersave_settings.HEARTBEAT_LIMIT))
    oldest = ExpressionWrapper(DatabaseNow() - limit, output_field=DateTimeField())
    living = Worker.objects.using(using).alive().filter(heartbeat_at__gte=oldest)
    return Serving.by(living.values_list("queues", flat=True))


def worker_command(queue: str) -> str:
    """What starts a worker for ``queue``."""
    return f"python manage.py runworker --queues {shlex.quote(queue)}"
