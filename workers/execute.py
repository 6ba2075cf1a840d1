"""One attempt to one outcome, in the thread or on the event loop that runs the handler."""

from __future__ import annotations

import hashlib
import inspect
import math
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any

from asgiref.sync import sync_to_async
from django.db import transaction

from tasks.conf import aftersave_settings
from tasks.exceptions import InvalidHandler, LeaseLost, RecordGone
from tasks.handlers import Cancel, Fail, Retry, Snooze, current_task
from tasks.models import Failure, State, Task
from tasks.redact import redacted_beginning, redacted_end
from tasks.settle import RECORD_DELETED, Ending, settle_own
from tasks.text import clean, cut, encode_result, one_line
from workers import log
from workers.attempt import Attempt, Later, Outcome, Written

_MESSAGE_LIMIT = 4096
#: A hundred years: later times do not fit every database.
_LONGEST_WAIT = 100 * 365 * 86400.0


def execute(attempt: Attempt) -> Outcome:
    """Run a sync handler; returns what is to be written. Never raises."""
    with _lent(attempt):
        try:
            if attempt.handler.atomic:
                return _execute_atomic(attempt)
            return _completed(attempt, attempt.handler.function(attempt.task))
        except BaseException as error:
            return _outcome_of(attempt, error)


async def execute_async(attempt: Attempt) -> Outcome:
    """Run an async handler on the event loop; returns what is to be written. Never raises."""
    with _lent(attempt):
        try:
            if attempt.task.content_type_id is not None:
                await sync_to_async(_load_record)(attempt.task)
            return _completed(attempt, await attempt.handler.function(attempt.task))
        except BaseException as error:
            return await sync_to_async(_outcome_of)(attempt, error)


def _load_record(task: Task) -> Any:
    return task.record


@contextmanager
def _lent(attempt: Attempt) -> Iterator[None]:
    attempt.enter()
    attempt.task._execution = attempt
    token = current_task.set(attempt.task)
    try:
        yield
    finally:
        attempt.leave()
        current_task.reset(token)


def _execute_atomic(attempt: Attempt) -> Written:
    task = attempt.task
    using, worker_id = task._state.db or "default", task.worker_id or 0
    with transaction.atomic(using=using):
        ending = _completed(attempt, attempt.handler.function(task))
        if not settle_own(using, worker_id, ending):
            raise LeaseLost(task)
    return Written(task_id=task.pk, lease=task.lease)


def _completed(attempt: Attempt, value: Any) -> Ending:
    _refuse_undone(attempt, value)
    try:
        result, complaint = encode_result(value)
    except Exception as error:  # from code of the value's own; what was done is done
        result, complaint = None, f"the return value cannot be read: {type(error).__name__}"
    if complaint:
        log.result_dropped(attempt.task, complaint)
    return _ending(attempt, State.COMPLETED, result=result)


def _outcome_of(attempt: Attempt, error: BaseException) -> Outcome:
    """What an exception means for the task."""
    task = attempt.task
    if isinstance(error, LeaseLost):
        return Written(task_id=task.pk, lease=task.lease, lost=True)
    if isinstance(error, Cancel):
        return _ending(attempt, State.CANCELLED, reason=one_line(_text_of(error.reason)))
    if isinstance(error, RecordGone) or _record_is_gone(task):
        return _ending(attempt, State.CANCELLED, reason=RECORD_DELETED)
    if isinstance(error, Snooze):
        return _later(attempt, error.after, failure=None)
    failure = _failure(attempt, error)
    if isinstance(error, Fail) or attempt.is_last:
        return _ending(
            attempt,
            State.FAILED,
            reason=_reason(error, failure),
            fingerprint=failure.fingerprint,
            failure=failure,
        )
    return _later(attempt, _delay(attempt, error), failure=failure)


def _later(attempt: Attempt, seconds: float, *, failure: Failure | None) -> Later:
    seconds = min(seconds, _LONGEST_WAIT)
    return Later(
        task_id=attempt.task.pk,
        lease=attempt.task.lease,
        run_at=attempt.clock.now() + timedelta(seconds=seconds),
        due=seconds <= 0,
        failure=failure,
        started_at=attempt.started_at,
    )


def _refuse_undone(attempt: Attempt, value: Any) -> None:
    """A coroutine or generator is work that was never begun: raise instead of completing."""
    if inspect.isawaitable(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
        if inspect.iscoroutine(value):
            value.close()
        raise InvalidHandler(
            f"Handler {attempt.handler.name!r} ({attempt.handler.path}) returned a "
            f"{type(value).__name__}: its work was not done. Declare it with async def, without a "
            "decorator that hides it, and without yield."
        )


def _ending(attempt: Attempt, state: State, **columns: Any) -> Ending:
    task = attempt.task
    return Ending(
        task_id=task.pk,
        lease=task.lease,
        state=state,
        has_dependents=task.has_dependents,
        started_at=attempt.started_at,
        **columns,
    )


def _record_is_gone(task: Task) -> bool:
    try:
        return task.record_is_gone()
    except Exception:
        # The database is away, or the key is none for the model of today.
        return False


def _delay(attempt: Attempt, error: BaseException) -> float:
    after = error.after if isinstance(error, Retry) else None
    try:
        seconds = attempt.handler.delay_after(attempt.task.attempts) if after is None else after
        if math.isnan(seconds):
            raise ValueError("a wait of NaN seconds")
    except Exception:
        log.backoff_broken(attempt.task)
        return float(aftersave_settings.BACKOFF_BASE)
    return seconds


def _reason(error: BaseException, failure: Failure) -> str:
    if isinstance(error, Fail):
        return one_line(_text_of(error.reason))
    short = failure.exception.rpartition(".")[2]
    return one_line(f"{short}: {failure.message}" if failure.message else short)


def _failure(attempt: Attempt, error: BaseException) -> Failure:
    kind = f"{type(error).__module__}.{type(error).__qualname__}"
    return Failure(
        task_id=attempt.task.pk,
        attempt=attempt.task.attempts,
        worker_id=attempt.task.worker_id,
        started_at=attempt.started_at,
        at=attempt.clock.now(),
        exception=clean(kind, 200),
        message=cut(_text_of(error), _MESSAGE_LIMIT),
        traceback=_traceback(error),
        fingerprint=_fingerprint(attempt.task.name, kind, error.__traceback__),
    )


def _text_of(said: object) -> str:
    try:
        return str(said)
    except Exception as second:
        return f"(its text cannot be had: {type(second).__name__})"


def _traceback(error: BaseException) -> str:
    """The traceback from the handler on; of a long one the beginning and, mostly, the end."""
    own = error.__traceback__
    while own is not None and own.tb_frame.f_globals.get("__name__") == __name__:
        own = own.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, own))
    except Exception as second:
        text = f"(the traceback cannot be formatted: {type(second).__name__})"
    limit = aftersave_settings.TRACEBACK_LIMIT
    if len(text) > limit:
        first = redacted_beginning(text, limit // 4)[: limit // 4]
        text = f"{first}\n[... cut ...]\n{redacted_end(text, limit // 2)[-limit // 2 :]}"
    return clean(text, limit)


def _fingerprint(name: str, kind: str, raised: TracebackType | None) -> str:
    """Equal for failures of one cause: name, exception class, raising function (not its line)."""
    where = ""
    while raised is not None:
        code = raised.tb_frame.f_code
        where = f"{raised.tb_frame.f_globals.get('__name__')}:{code.co_qualname}"
        raised = raised.tb_next
    return hashlib.sha256(f"{name}\n{kind}\n{where}".encode()).hexdigest()[:32]
