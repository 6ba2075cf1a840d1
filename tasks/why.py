"""Why a task does not run now, in one sentence with its remedy, as plain text for any reader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import router
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks.handlers import registry
from tasks.models import Prerequisite, Queue, State, Task, TaskQuerySet, Worker
from tasks.names import OWN
from tasks.redact import redact_text
from tasks.serving import Serving, lives, worker_command
from tasks.settle import RECORD_DELETED

#: Stands in ``Reason.pattern`` where each of its times goes.
TIME = "\ufffc"
MOST_NAMED = 3
_MOST_LINKS = 5000


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """What helps: ``kind`` is ``action`` (on ``task_id`` or ``queue``), ``task`` (look at
    ``task_id``), ``command`` (to be typed), ``address`` (``url``) or ``advice`` (``text`` alone).
    ``paused_at``: the pause of ``queue`` that it ends.
    """

    kind: str
    text: str
    action: str = ""
    task_id: int | None = None
    queue: str = ""
    paused_at: datetime | None = None
    command: str = ""
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a task is where it is. ``kind`` is one of waiting, paused, unknown_name, no_worker,
    later, retrying, due, running, failed, completed and cancelled.
    """

    kind: str
    pattern: str
    times: tuple[datetime, ...] = ()
    remedies: tuple[Remedy, ...] = ()

    @property
    def at(self) -> datetime | None:
        """The time that it is about, if there is one."""
        return self.times[0] if self.times else None

    @property
    def text(self) -> str:
        """One sentence (or two), its times in the current time zone."""
        text = self.pattern
        for moment in self.times:
            text = text.replace(TIME, _moment(moment), 1)
        return text

    @property
    def remedy(self) -> Remedy | None:
        """The first remedy, if there is one."""
        return self.remedies[0] if self.remedies else None


def why(task: Task) -> Reason:
    """Why ``task`` does not run now, or how it ended."""
    return whys([task])[task.pk]


def whys(tasks: Iterable[Task], *, visible: TaskQuerySet | None = None) -> dict[int, Reason]:
    """``why`` of each, by id; a fixed number of queries. The tasks are of one database.

    ``visible``: of what they wait for only these are named.
    """
    given = list(tasks)
    if not given:
        return {}
    known = _Known(given[0]._state.db or "default", given, visible)
    return {task.pk: _reason(task, known) for task in given}


@dataclass
class _Known:
    """What the reasons of some tasks depend on beside their own rows."""

    using: str
    tasks: Collection[Task]
    visible: TaskQuerySet | None = None
    prerequisites: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    paused: dict[str, Queue] = field(default_factory=dict)
    workers: dict[int, Worker] = field(default_factory=dict)
    living: dict[int, Worker] = field(default_factory=dict)
    # What they serve: all of them, or those with slots for sync (False) or async handlers (True).
    serving: dict[bool | None, Serving] = field(default_factory=dict)

    def __post_init__(self) -> None:
        by_state: dict[str, list[Task]] = defaultdict(list)
        for task in self.tasks:
            by_state[task.state].append(task)
        if waiting := by_state[State.WAITING]:
            self.prerequisites = self._open_prerequisites(waiting)
        if by_state[State.SCHEDULED] or by_state[State.RUNNING]:
            self._find_workers({task.worker_id for task in by_state[State.RUNNING]})
        if scheduled := by_state[State.SCHEDULED]:
            queues = Queue.objects.using(self.using).filter(paused_at__isnull=False)
            self.paused = queues.in_bulk({task.queue for task in scheduled})

    def _find_workers(self, ids: Collection[int | None]) -> None:
        is_living = ExpressionWrapper(lives(), output_field=BooleanField())
        rows = Worker.objects.using(self.using).annotate(is_living=is_living)
        self.workers = {worker.pk: worker for worker in rows.filter(lives() | Q(pk__in=ids))}
        self.living = {
            key: worker
            for key, worker in self.workers.items()
            if worker.is_living  # type: ignore[attr-defined]
        }
        living = self.living.values()
        self.serving = {
            None: Serving.by(worker.queues for worker in living),
            False: Serving.by(worker.queues for worker in living if worker.threads),
            True: Serving.by(worker.queues for worker in living if worker.coroutines),
        }

    def _open_prerequisites(self, waiting: list[Task]) -> dict[int, list[tuple[int, str]]]:
        links = Prerequisite.objects.using(self.using)
        links = links.filter(task__in=[task.pk for task in waiting])
        pairs = list(links.values_list("task_id", "prerequisite_id")[:_MOST_LINKS])
        # Apart, by key: joined, PostgreSQL may read all tasks.
        tasks = Task.objects.all() if self.visible is None else self.visible
        rows = tasks.using(self.using).filter(pk__in={needed for _task, needed in pairs})
        unsettled = rows.exclude(state__in=(State.COMPLETED, State.CANCELLED))
        states = dict(unsettled.values_list("pk", "state"))
        found: dict[int, list[tuple[int, str]]] = defaultdict(list)
        for task_id, needed in pairs:
            if needed in states:
                found[task_id].append((needed, states[needed]))
        return found


def _reason(task: Task, known: _Known) -> Reason:
    return _REASONS[State(task.state)](task, known)


def _waiting(task: Task, known: _Known) -> Reason:
    links = known.prerequisites.get(task.pk, [])
    # What failed comes first: that one needs somebody.
    links = sorted(links, key=lambda link: (link[1] != State.FAILED, link[0]))
    failed = [pk for pk, state in links if state == State.FAILED]
    ids = [pk for pk, _state in links]
    values = {"names": _numbers(ids), "failed": _numbers(failed)}
    if not ids:
        text = _("It waits for other tasks.")
    elif len(failed) == len(ids):
        text = ngettext(
            "It waits for %(names)s, which failed.",
            "It waits for %(names)s, which failed.",
            len(ids),
        )
    elif failed:
        text = _("It waits for %(names)s; of these %(failed)s failed.")
    else:
        text = _("It waits for %(names)s.")
    return Reason(
        kind="waiting",
        pattern=text % values,
        remedies=tuple(
            Remedy(kind="task", text=_("Look at #%(id)s") % {"id": pk}, task_id=pk)
            for pk in ids[:MOST_NAMED]
        ),
    )


def _numbers(ids: list[int]) -> str:
    return ", ".join(f"#{pk}" for pk in ids[:MOST_NAMED]) + (" …" if len(ids) > MOST_NAMED else "")


def _scheduled(task: Task, known: _Known) -> Reason:
    obstacle = _obstacle(task, known)
    # Without a worker nobody makes it due when its time comes.
    if task.due or task.run_at <= timezone.now():
        return obstacle or Reason(
            kind="due", pattern=_("Its time has come: the next free worker takes it.")
        )
    own = _later(task)
    if obstacle is None:
        return own
    return Reason(
        kind=own.kind,
        pattern=f"{_ended(own.pattern)} {obstacle.pattern}",
        times=(*own.times, *obstacle.times),
        remedies=(*own.remedies, *obstacle.remedies),
    )


def _ended(sentence: str) -> str:
    """``sentence`` with its full stop, which one that ends in the words of an error lacks."""
    return sentence if sentence.endswith((".", "!", "?", "…")) else f"{sentence}."


def _later(task: Task) -> Reason:
    now = Remedy(kind="action", text=_("Run now"), action="run_now", task_id=task.pk)
    values = {
        "attempt": task.attempts + 1,
        "most": task.max_attempts,
        "reason": _told(task),
        "time": TIME,
    }
    if not task.attempts:
        text = _("It runs later: %(time)s.")
    elif task.reason:
        text = _("Attempt %(attempt)s of %(most)s comes at %(time)s, because: %(reason)s")
    else:
        text = _("Attempt %(attempt)s of %(most)s comes at %(time)s.")
    return Reason(
        kind="retrying" if task.attempts else "later",
        pattern=text % values,
        times=(task.run_at,),
        remedies=(now,),
    )


def _obstacle(task: Task, known: _Known) -> Reason | None:
    if task.queue in known.paused:
        return _paused(known.paused[task.queue])
    handler = registry.get(task.name)
    if handler is None:
        text = _("No handler of the name %(name)s is known here, so workers leave it alone.")
        advice = _("Add the handler to the code, or correct the name, and start the workers anew.")
        return Reason(
            kind="unknown_name",
            pattern=text % {"name": task.name},
            remedies=(Remedy(kind="advice", text=advice),),
        )
    if not known.serving[None].serves(task.queue):
        text = _("No live worker serves the queue %(queue)s.") % {"queue": task.queue}
        return Reason(kind="no_worker", pattern=text, remedies=(_start_one(task),))
    # Whatever their options, all workers have room for Aftersave's own.
    if task.type != OWN and not known.serving[handler.is_async].serves(task.queue):
        option = "--coroutines 0" if handler.is_async else "--threads 0"
        text = _("No live worker of the queue %(queue)s takes it: all run with %(option)s.")
        values = {"queue": task.queue, "option": option}
        return Reason(kind="no_worker", pattern=text % values, remedies=(_start_one(task),))
    return None


def _start_one(task: Task) -> Remedy:
    # Read from a replica, it is run where it is written.
    command = worker_command(task.queue, router.db_for_write(Task, instance=task))
    return Remedy(kind="command", text=_("Start one"), queue=task.queue, command=command)


def _paused(queue: Queue) -> Reason:
    values = {"queue": queue.name, "who": queue.paused_by, "time": TIME}
    if queue.paused_by:
        text = _("The queue %(queue)s was paused by %(who)s at %(time)s.") % values
    else:
        text = _("The queue %(queue)s was paused at %(time)s.") % values
    if queue.paused_reason:
        text = f"{text} “{redact_text(queue.paused_reason).replace(TIME, '')}”"
    resume = Remedy(
        kind="action",
        text=_("Resume the queue %(queue)s") % values,
        action="resume",
        queue=str(queue.name),
        paused_at=queue.paused_at,
    )
    times = (queue.paused_at,) if queue.paused_at else ()
    return Reason(kind="paused", pattern=text, times=times, remedies=(resume,))


def _running(task: Task, known: _Known) -> Reason:
    worker = known.workers.get(task.worker_id or 0)
    if worker is None or worker.stopped_at or worker.lost_at:
        text = _("The worker that had it is gone: it is taken from it in a moment.")
        return Reason(kind="running", pattern=text)
    values = {"worker": worker, "time": TIME}
    if worker.pk not in known.living:
        return _silent(task, worker, known)
    if task.started_at is None:
        return Reason(kind="running", pattern=_("The worker %(worker)s is starting it.") % values)
    text = _("The worker %(worker)s performs it since %(time)s.")
    return Reason(kind="running", pattern=text % values, times=(task.started_at,))


def _silent(task: Task, worker: Worker, known: _Known) -> Reason:
    text = _(
        "The worker %(worker)s has it and was heard of last at %(time)s: another takes it over."
    )
    remedies: tuple[Remedy, ...] = ()
    if not known.living:
        text = _(
            "The worker %(worker)s has it and was heard of last at %(time)s. No other worker is "
            "there to take it over."
        )
        remedies = (_start_one(task),)
    values = {"worker": worker, "time": TIME}
    times = (worker.heartbeat_at,)
    return Reason(kind="running", pattern=text % values, times=times, remedies=remedies)


def _failed(task: Task, known: _Known) -> Reason:
    handler = task.handler
    remedies = [Remedy(kind="action", text=_("Retry"), action="retry", task_id=task.pk)]
    if handler and handler.on_failure:
        remedies.append(Remedy(kind="advice", text=str(handler.on_failure)))
    if handler and handler.runbook:
        remedies.append(Remedy(kind="address", text=_("What to do"), url=handler.runbook))
    return Reason(kind="failed", pattern=_told(task) or _("It failed."), remedies=tuple(remedies))


def _completed(task: Task, known: _Known) -> Reason:
    return Reason(kind="completed", pattern=_told(task) or _("It is done."))


def _cancelled(task: Task, known: _Known) -> Reason:
    retry = Remedy(kind="action", text=_("Retry"), action="retry", task_id=task.pk)
    if task.reason == RECORD_DELETED:
        text = _("It was cancelled because its record was deleted.")
        return Reason(kind="cancelled", pattern=text)
    return Reason(
        kind="cancelled", pattern=_told(task) or _("It was cancelled."), remedies=(retry,)
    )


def _told(task: Task) -> str:
    return redact_text(task.reason).replace(TIME, "")


def _moment(at: datetime) -> str:
    local, now = (_local(moment) for moment in (at, timezone.now()))
    day = "" if local.date() == now.date() else f"{date_format(local, 'DATE_FORMAT')}, "
    return f"{day}{local:%H:%M:%S}"


def _local(moment: datetime) -> datetime:
    return timezone.localtime(moment) if timezone.is_aware(moment) else moment


_REASONS = {
    State.WAITING: _waiting,
    State.SCHEDULED: _scheduled,
    State.RUNNING: _running,
    State.COMPLETED: _completed,
    State.FAILED: _failed,
    State.CANCELLED: _cancelled,
}
