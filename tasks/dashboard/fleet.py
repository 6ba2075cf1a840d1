"""Workers as the overview shows them: who lives, and what each slot runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from django.db.models import Q
from django.utils import timezone
from django.utils.safestring import SafeString

from tasks.conf import aftersave_settings
from tasks.dashboard.display import time_html
from tasks.dashboard.page import list_url, page_url
from tasks.dashboard.viewer import Viewer
from tasks.models import Task, Worker
from tasks.serving import Serving

MOST_WORKERS = 100
MOST_RUNNING = 1000
#: So many of its tasks are named beside a worker; the others are one link away.
_SLOTS_SHOWN = 8
_DEAD_SHOWN_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class Slot:
    """A task that a worker has now; ``started`` is empty until its handler was entered."""

    task: Task
    url: str
    started: SafeString | str


@dataclass(frozen=True)
class ShownWorker:
    """A worker with what it runs."""

    worker: Worker
    busy: int
    slots: list[Slot]
    url: str

    @property
    def is_dead(self) -> bool:
        """Whether others found it dead."""
        return self.worker.lost_at is not None

    @property
    def is_silent(self) -> bool:
        """Whether it was not heard of for too long, and nobody took its tasks back yet."""
        return not self.is_dead and is_silent(self.worker)

    @property
    def room(self) -> int:
        """How many tasks it can run at a time."""
        return self.worker.threads + self.worker.coroutines

    @property
    def more(self) -> int:
        """How many tasks it has besides those in ``slots``."""
        return self.busy - len(self.slots)

    @property
    def heartbeat(self) -> SafeString:
        """When it was heard of last."""
        return time_html(self.worker.heartbeat_at)

    @property
    def lost(self) -> SafeString:
        """When others found it dead."""
        return time_html(self.worker.lost_at)

    @property
    def started(self) -> SafeString:
        """Since when it is there."""
        return time_html(self.worker.started_at)


def running_tasks(viewer: Viewer) -> list[Task]:
    """What runs now as far as the viewer may know of it, at most ``MOST_RUNNING``."""
    columns = ("type", "action", "queue", "state", "worker_id", "started_at")
    return list(viewer.tasks.running().only(*columns)[:MOST_RUNNING])


def serving(known: Iterable[Worker]) -> Serving:
    """Which queues those serve that live."""
    return Serving.by(one.queues for one in known if not (one.lost_at or is_silent(one)))


def is_silent(worker: Worker) -> bool:
    """Whether it was not heard of for too long."""
    limit = timedelta(seconds=aftersave_settings.HEARTBEAT_LIMIT)
    return timezone.now() - worker.heartbeat_at > limit


def fleet(viewer: Viewer, known: Iterable[Worker], running: Iterable[Task]) -> list[ShownWorker]:
    """The first ``MOST_WORKERS``, each with what it runs."""
    by_worker: dict[int | None, list[Task]] = defaultdict(list)
    for task in running:
        by_worker[task.worker_id].append(task)
    return [_shown(viewer, worker, by_worker[worker.pk]) for worker in islice(known, MOST_WORKERS)]


def workers() -> list[Worker]:
    """The live ones first, then the dead of the last day."""
    known = Worker.objects.filter(stopped_at__isnull=True).order_by("host", "pid", "id")
    since = timezone.now() - _DEAD_SHOWN_FOR
    kept = known.filter(Q(lost_at__isnull=True) | Q(lost_at__gt=since))
    return sorted(kept, key=lambda worker: worker.lost_at is not None)


def _shown(viewer: Viewer, worker: Worker, tasks: list[Task]) -> ShownWorker:
    longest = sorted(tasks, key=_age)[:_SLOTS_SHOWN]
    search = f"state:running worker:{worker.host}:{worker.pid}"
    return ShownWorker(
        worker, len(tasks), [_slot(viewer, task) for task in longest], list_url(viewer, search)
    )


def _slot(viewer: Viewer, task: Task) -> Slot:
    started = time_html(task.started_at) if task.started_at else ""
    return Slot(task, page_url(viewer, "change", task_id=task.pk), started)


def _age(task: Task) -> tuple[bool, object, int]:
    return task.started_at is None, task.started_at or 0, task.pk
