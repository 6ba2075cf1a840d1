"""Workers as the overview shows them: who lives, and what each slot runs."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.utils import timezone
from django.utils.safestring import SafeString

from tasks.dashboard.display import time_html
from tasks.dashboard.grammar import quoted
from tasks.dashboard.numbers import about, number
from tasks.dashboard.page import list_url, page_url
from tasks.dashboard.viewer import Viewer
from tasks.models import Task, Worker
from tasks.serving import Serving, lives

MOST_WORKERS = 100
#: Of more than that only about how many there are is told.
MOST_RUNNING = 10_000
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
class Running:
    """How much runs now, as far as the viewer may know of it; more than that unless ``is_exact``.

    ``longest``: of each worker the tasks that have run for longest, some of them.
    """

    by_queue: Counter[str]
    by_worker: Counter[int]
    longest: dict[int, list[Task]]
    is_exact: bool = True


@dataclass(frozen=True)
class ShownWorker:
    """A worker with what it runs."""

    worker: Worker
    busy: int
    slots: list[Slot]
    url: str
    is_exact: bool = True

    @property
    def is_dead(self) -> bool:
        """Whether others found it dead."""
        return self.worker.lost_at is not None

    @property
    def is_silent(self) -> bool:
        """Whether it was not heard of for too long, and nobody took its tasks back yet."""
        return not (self.is_dead or _is_living(self.worker))

    @property
    def busy_text(self) -> str:
        """``busy`` for people."""
        return about(self.busy, exact=self.is_exact)

    @property
    def room(self) -> int:
        """How many tasks it can run at a time."""
        return self.worker.threads + self.worker.coroutines

    @property
    def room_text(self) -> str:
        """``room`` for people."""
        return number(self.room)

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


def running(viewer: Viewer) -> Running:
    """What runs now, bounded by the slots of the workers; two queries."""
    columns = ("worker_id", "queue", "started_at", "pk")
    rows = list(viewer.tasks.running().order_by().values_list(*columns)[: MOST_RUNNING + 1])
    by_worker: dict[int, list[tuple[bool, Any, int]]] = defaultdict(list)
    for worker, _queue, started, key in rows:
        by_worker[worker].append((started is None, started or 0, key))
    longest = {worker: heapq.nsmallest(_SLOTS_SHOWN, ages) for worker, ages in by_worker.items()}
    keys = [key for ages in longest.values() for *_age, key in ages]
    tasks = viewer.tasks.only("type", "action", "started_at").in_bulk(keys)
    return Running(
        by_queue=Counter(queue for _worker, queue, *_rest in rows),
        by_worker=Counter({worker: len(ages) for worker, ages in by_worker.items()}),
        longest={
            worker: [tasks[key] for *_age, key in ages if key in tasks]
            for worker, ages in longest.items()
        },
        is_exact=len(rows) <= MOST_RUNNING,
    )


def serving(known: Iterable[Worker]) -> Serving:
    """Which queues those serve that live; ``known`` as ``workers`` gives them."""
    return Serving.by(one.queues for one in known if _is_living(one))


def _is_living(worker: Worker) -> bool:
    return bool(worker.is_living)  # type: ignore[attr-defined]


def fleet(viewer: Viewer, known: Iterable[Worker], running: Running) -> list[ShownWorker]:
    """The first ``MOST_WORKERS``, each with what it runs."""
    return [_shown(viewer, worker, running) for worker in islice(known, MOST_WORKERS)]


def workers() -> list[Worker]:
    """The live ones first, then the dead of the last day."""
    known = Worker.objects.filter(stopped_at__isnull=True).order_by("host", "pid", "id")
    since = timezone.now() - _DEAD_SHOWN_FOR
    kept = known.filter(Q(lost_at__isnull=True) | Q(lost_at__gt=since))
    asked = kept.annotate(is_living=ExpressionWrapper(lives(), output_field=BooleanField()))
    return sorted(asked, key=lambda worker: worker.lost_at is not None)


def _shown(viewer: Viewer, worker: Worker, running: Running) -> ShownWorker:
    search = f"state:running worker:{quoted(f'{worker.host}:{worker.pid}')}"
    return ShownWorker(
        worker,
        running.by_worker[worker.pk],
        [_slot(viewer, task) for task in running.longest.get(worker.pk, [])],
        list_url(viewer, search),
        running.is_exact,
    )


def _slot(viewer: Viewer, task: Task) -> Slot:
    started = time_html(task.started_at) if task.started_at else ""
    return Slot(task, page_url(viewer, "change", task_id=task.pk), started)
