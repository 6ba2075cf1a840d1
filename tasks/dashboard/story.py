"""What happened to tasks, in time order: made by whom, tried, failed, acted on by staff.

One story over all tasks of a record, or over one; five queries whatever their number.
"""

from __future__ import annotations

import copy
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks.dashboard.buttons import done_word
from tasks.dashboard.display import SHOWN_STATES, shown_text, took
from tasks.dashboard.entries import Entry, Story, changes, one_sentence
from tasks.dashboard.viewer import Viewer
from tasks.models import Failure, LogLine, State, Task, TaskEvent, Worker
from tasks.redact import redact_text

MOST_FAILURES = 200
MOST_EVENTS = 200
#: Tracebacks are long, and the newest is the one that is read.
MOST_TRACEBACKS = 10

_RULE = re.compile(r"[\w.<>]{1,200}$")
_ORIGIN = re.compile(r"task:(\d{1,19})$")


def tell(viewer: Viewer, tasks: Sequence[Task], *, tracebacks: bool = False) -> Story:
    """The story of ``tasks``, as much of it as the person may see."""
    teller = _Teller(viewer, tasks, tracebacks=tracebacks)
    return Story(sorted(teller.entries(), key=lambda entry: entry.at), teller.is_cut)


def creators(task: Task) -> tuple[str, int | None]:
    """The path of the rule that made ``task`` or "", and the id of the task that did or None."""
    rule, origin = (str(task.context.get(key, "")) for key in ("rule", "origin"))
    found = _ORIGIN.match(origin)
    return rule if _RULE.match(rule) else "", int(found[1]) if found else None


class _Teller:
    def __init__(self, viewer: Viewer, tasks: Sequence[Task], *, tracebacks: bool) -> None:
        self.sees_data = viewer.sees_data
        self.tasks = {task.pk: task for task in tasks}
        self.failures = self._failures() if tasks else []
        self.events = self._events() if tasks else []
        self.is_cut = len(self.failures) > MOST_FAILURES or len(self.events) > MOST_EVENTS
        self.failures = self.failures[:MOST_FAILURES]
        self.events = self.events[:MOST_EVENTS]
        self.lost = self._lost() if tasks else []
        self.workers = self._workers()
        self.tracebacks = self._tracebacks() if tracebacks and self.sees_data else {}
        self.last_failure = {row.task_id: row.pk for row in reversed(self.failures)}
        self.last_act = self._last_acts()

    def entries(self) -> Iterator[Entry]:
        yield from self._created()
        for failure in self.failures:
            yield self._failed(failure)
        for line in self.lost:
            yield self._worker_lost(line)
        yield from self._acts()
        for task in self.tasks.values():
            told = task.pk in self.last_failure
            yield from self._ended(task, self.last_act.get(task.pk), is_failure_told=told)

    # What is read of the database

    def _failures(self) -> list[Failure]:
        rows = Failure.objects.using(self._using).filter(task__in=list(self.tasks))
        unread = ("traceback",) if self.sees_data else ("traceback", "message")
        return list(rows.order_by("-pk").defer(*unread)[: MOST_FAILURES + 1])

    def _events(self) -> list[TaskEvent]:
        rows = TaskEvent.objects.using(self._using).filter(task__in=list(self.tasks))
        is_there = ExpressionWrapper(Q(before__isnull=False), output_field=BooleanField())
        rows = rows.order_by("-pk").defer("before").annotate(has_before=is_there)
        found: list[TaskEvent] = list(rows[: MOST_EVENTS + 1])
        for event in found:
            # Only whether there is something to restore matters here, and it may be large.
            event.before = {} if event.has_before else None  # type: ignore[attr-defined]
        return found

    def _lost(self) -> list[LogLine]:
        lines = LogLine.objects.using(self._using).filter(task__in=list(self.tasks))
        lines = lines.filter(level=logging.WARNING, text=LogLine.WORKER_LOST)
        return list(lines.order_by("-pk")[:MOST_FAILURES])

    def _workers(self) -> dict[int, str]:
        ids = {failure.worker_id for failure in self.failures}
        ids |= {task.worker_id for task in self.tasks.values()}
        ids |= {event.ended["worker_id"] for event in self.events if event.ended}
        rows = Worker.objects.using(self._using).filter(pk__in=[pk for pk in ids if pk])
        return {worker.pk: str(worker) for worker in rows.only("host", "pid")}

    def _tracebacks(self) -> dict[int, str]:
        newest = [failure.pk for failure in self.failures[:MOST_TRACEBACKS]]
        rows = Failure.objects.using(self._using).filter(pk__in=newest)
        return {key: shown_text(text) for key, text in rows.values_list("pk", "traceback")}

    @property
    def _using(self) -> str | None:
        return next((task._state.db for task in self.tasks.values()), None)

    def _last_acts(self) -> dict[int, str]:
        """What staff did last to each task."""
        return {event.task_id or 0: event.action for event in reversed(self.events)}

    # What is told

    def _created(self) -> Iterator[Entry]:
        """One entry for all tasks that one rule or task made at once."""
        together: dict[Any, list[Task]] = defaultdict(list)
        for task in self.tasks.values():
            together[(creators(task), task.created_at.replace(microsecond=0))].append(task)
        for (made_by, _second), made in together.items():
            first = min(made, key=lambda task: task.pk)
            yield Entry(
                id=f"af-entry-created-{first.pk}",
                at=min(task.created_at for task in made),
                look="later",
                icon="+",
                sentence=_created_sentence(*made_by, count=len(made)),
                small=[", ".join(task.title for task in sorted(made, key=lambda t: t.pk))]
                if len(self.tasks) > 1
                else [],
            )

    def _failed(self, failure: Failure) -> Entry:
        task = self.tasks[failure.task_id]
        is_end = task.state == State.FAILED and self.last_failure[task.pk] == failure.pk
        return Entry(
            id=f"af-entry-failure-{failure.pk}",
            at=failure.at,
            look="failed" if is_end else "retrying",
            icon=SHOWN_STATES["failed" if is_end else "retrying"].icon,
            sentence=_failure_sentence(failure, task, is_end, self._error(failure, task, is_end)),
            task=task,
            small=self._circumstances(failure.started_at, failure.at, failure.worker_id),
            message=shown_text(failure.message) if failure.pk in self.tracebacks else "",
            traceback=self.tracebacks.get(failure.pk, ""),
        )

    def _error(self, failure: Failure, task: Task, is_end: bool) -> str:
        if is_end and task.reason:
            return one_sentence(task.reason)
        short = one_sentence(failure.exception.rpartition(".")[2])
        if not self.sees_data or not failure.message:
            return short
        return one_sentence(f"{short}: {failure.message}")

    def _circumstances(
        self, start: datetime | None, end: datetime | None, worker_id: int | None
    ) -> list[str]:
        time, worker = took(start, end), self.workers.get(worker_id or 0, "")
        return [
            text
            for text in (
                time and _("after %(time)s") % {"time": time},
                worker and _("on %(worker)s") % {"worker": worker},
            )
            if text
        ]

    def _worker_lost(self, line: LogLine) -> Entry:
        text = _("Attempt %(attempt)s was lost with its worker: the task went back to its queue.")
        return Entry(
            id=f"af-entry-lost-{line.pk}",
            at=line.at,
            look="retrying",
            icon=SHOWN_STATES["retrying"].icon,
            sentence=text % {"attempt": line.attempt},
            task=self.tasks[line.task_id],
        )

    def _acted(self, event: TaskEvent) -> Entry:
        return Entry(
            id=f"af-entry-event-{event.pk}",
            at=event.at,
            look="person",
            icon="☞",
            sentence=redact_text(done_word(event.action)),
            who=redact_text(event.who) or _("A program"),
            task=self.tasks[event.task_id or 0],
            said=redact_text(event.reason),
            changes=changes(event.difference) if self.sees_data else (),
            event=event,
        )

    def _acts(self) -> Iterator[Entry]:
        """What staff did, each after how the task had ended before: both may be of one moment."""
        last_act: dict[int | None, str] = {}
        for event in reversed(self.events):
            if event.ended:
                task = _as_it_ended(self.tasks[event.task_id or 0], event.ended)
                yield from self._ended(task, last_act.get(event.task_id), is_failure_told=False)
            yield self._acted(event)
            last_act[event.task_id] = event.action

    def _ended(self, task: Task, by_hand: str | None, *, is_failure_told: bool) -> Iterator[Entry]:
        """How the last attempt ended, where no failure and no member of staff tells it."""
        if task.state == State.COMPLETED and not (task.reason and by_hand == "complete"):
            yield self._end(task, _completed_sentence(task))
        elif task.state == State.CANCELLED and by_hand != "cancel":
            yield self._end(task, _cancelled_sentence(task))
        elif task.state == State.FAILED and not is_failure_told:
            yield self._end(task, _("Failed: %(why)s") % {"why": one_sentence(task.reason)})

    def _end(self, task: Task, sentence: str) -> Entry:
        at = task.finished_at or task.created_at
        ran = task.state == State.COMPLETED and not task.reason
        return Entry(
            id=f"af-entry-end-{task.pk}-{task.lease}",
            at=at,
            look=task.shown_state,
            icon=SHOWN_STATES[task.shown_state].icon,
            sentence=sentence,
            task=task,
            small=self._circumstances(task.started_at, at, task.worker_id) if ran else [],
        )


def _as_it_ended(task: Task, ended: dict[str, Any]) -> Task:
    then = copy.copy(task)
    for name, value in ended.items():
        is_time = name.endswith("_at") and value
        setattr(then, name, datetime.fromisoformat(value) if is_time else value)
    return then


def _created_sentence(rule: str, origin: int | None, *, count: int) -> str:
    made = ngettext("Created", "%(count)s tasks were created", count) % {"count": count}
    if rule:
        name = rule.rpartition(".")[2]
        return _("%(made)s by the rule “%(rule)s”.") % {"made": made, "rule": name}
    if origin:
        return _("%(made)s by task #%(origin)s.") % {"made": made, "origin": origin}
    return _("%(made)s by code.") % {"made": made}


def _failure_sentence(failure: Failure, task: Task, is_end: bool, error: str) -> str:
    if not is_end:
        text = _("Attempt %(attempt)s failed: %(error)s")
    elif failure.attempt >= task.max_attempts:
        text = _("Attempt %(attempt)s failed, and none is left: %(error)s")
    else:
        text = _("Attempt %(attempt)s failed for good: %(error)s")
    return text % {"attempt": failure.attempt, "error": error}


def _completed_sentence(task: Task) -> str:
    if task.reason:
        return one_sentence(task.reason)
    return _("Completed in attempt %(attempt)s.") % {"attempt": task.attempts}


def _cancelled_sentence(task: Task) -> str:
    if not task.reason:
        return _("Cancelled.")
    return _("Cancelled: %(why)s") % {"why": one_sentence(task.reason)}
