"""The look: what an idle worker asks the database once a second, on PostgreSQL in one statement."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connections
from django.db.models import DateTimeField, Exists, ExpressionWrapper, OuterRef, Value
from django.utils import timezone

from tasks.conf import aftersave_settings
from tasks.models import Queue, State, Task, Worker
from tasks.models.clock import DatabaseNow
from tasks.models.due import LANES_SQL
from tasks.names import OWN

BEAT_EVERY = 5.0
#: Locks say nothing about workers until the server has been up for so long.
SERVER_SETTLES = 15.0


@dataclass(slots=True)
class Seen:
    """What a look saw."""

    alive: bool
    now: datetime
    due_queues: list[str] = field(default_factory=list)
    next_run_at: datetime | None = None
    silent: list[int] = field(default_factory=list)  # heartbeat too old
    unlocked: list[int] = field(default_factory=list)  # lock free
    orphaned: bool = False


DUE_QUEUES = f"""
WITH RECURSIVE {LANES_SQL}
SELECT queue FROM lane WHERE queue IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM tasks_queue
    WHERE name = lane.queue AND paused_at IS NOT NULL AND name <> '{OWN}')
"""

_ONE_STATEMENT = f"""
WITH beat AS (
    UPDATE tasks_worker SET heartbeat_at = statement_timestamp()
    WHERE id = %(me)s AND stopped_at IS NULL AND lost_at IS NULL
      AND heartbeat_at < statement_timestamp() - make_interval(secs => %(beat)s)
), living AS MATERIALIZED (
    SELECT id, holds_lock, heartbeat_at FROM tasks_worker
    WHERE stopped_at IS NULL AND lost_at IS NULL
), server AS MATERIALIZED (
    SELECT pg_postmaster_start_time() < statement_timestamp() - make_interval(secs => %(settles)s)
        AS settled
)
SELECT
    EXISTS (SELECT 1 FROM living WHERE id = %(me)s),
    statement_timestamp(),
    ARRAY({DUE_QUEUES}),
    (SELECT run_at FROM tasks_task WHERE state = 'scheduled' AND NOT due ORDER BY run_at LIMIT 1),
    ARRAY(SELECT id FROM living, server WHERE settled AND id <> %(me)s
          AND heartbeat_at < statement_timestamp() - make_interval(secs => %(limit)s)),
    ARRAY(SELECT id FROM living, server WHERE settled AND holds_lock AND id <> %(me)s
          AND NOT EXISTS (
              SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
              AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND classid::bigint = living.id >> 32
              AND objid::bigint = living.id & 4294967295)),
    EXISTS (SELECT 1 FROM tasks_task WHERE state = 'running'
            AND worker_id <> ALL (ARRAY(SELECT id FROM living)))
"""


def look(using: str, me: int) -> Seen:
    """Ask for due work, the next timer, and dead workers; say that ``me`` lives.

    ``alive`` is False when ``me`` was declared dead.
    """
    if connections[using].vendor != "postgresql":
        return _look_in_steps(using, me)
    with connections[using].cursor() as cursor:
        cursor.execute(
            _ONE_STATEMENT,
            {
                "me": me,
                "beat": min(BEAT_EVERY, aftersave_settings.HEARTBEAT_LIMIT / 6),
                "settles": SERVER_SETTLES,
                "limit": aftersave_settings.HEARTBEAT_LIMIT,
            },
        )
        return Seen(*cursor.fetchone())


def due_queues(using: str) -> list[str]:
    """Names of the queues with due work, paused ones left out."""
    if not connections[using].features.supports_partial_indexes:
        return _due_queues_one_by_one(using)
    with connections[using].cursor() as cursor:
        cursor.execute(DUE_QUEUES)
        return [row[0] for row in cursor.fetchall()]


def _due_queues_one_by_one(using: str) -> list[str]:
    due = Task.objects.using(using).due().order_by("queue").values_list("queue", flat=True)
    found: list[str] = []
    while queues := list(due.filter(queue__gt=found[-1] if found else "")[:1]):
        found += queues
    rows = Queue.objects.using(using).filter(paused_at__isnull=False).exclude(name=OWN)
    paused = set(rows.values_list("name", flat=True))
    return [queue for queue in found if queue not in paused]


def _look_in_steps(using: str, me: int) -> Seen:
    living = Worker.objects.using(using).alive()
    alive = living.filter(pk=me).update(heartbeat_at=DatabaseNow()) == 1
    limit = Value(timedelta(seconds=aftersave_settings.HEARTBEAT_LIMIT))
    too_old = ExpressionWrapper(DatabaseNow() - limit, output_field=DateTimeField())
    now = living.values_list(DatabaseNow(), flat=True).first()
    later = Task.objects.using(using).filter(state=State.SCHEDULED, due=False)
    homeless = (
        Task.objects.using(using).running().exclude(Exists(living.filter(pk=OuterRef("worker_id"))))
    )
    silent = living.filter(heartbeat_at__lt=too_old).exclude(pk=me)
    return Seen(
        alive=alive,
        now=now or timezone.now(),
        due_queues=due_queues(using),
        next_run_at=later.order_by("run_at").values_list("run_at", flat=True).first(),
        silent=list(silent.values_list("pk", flat=True)),
        orphaned=homeless.exists(),
    )
