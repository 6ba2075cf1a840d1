"""Handlers: the functions that perform tasks, found by task name. Knows nothing of the ORM."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from tasks.conf import aftersave_settings
from tasks.exceptions import DuplicateHandler, InvalidHandler
from tasks.names import OWN, split_name
from tasks.options import wrong_backoff, wrong_for_people, wrong_option, wrong_text

Function = TypeVar("Function", bound=Callable[..., Any])
Backoff = float | Callable[[int], float]


#: The task whose handler runs here, if any.
current_task: ContextVar[Any | None] = ContextVar("aftersave_current_task", default=None)


class Outcome(Exception):
    """Root of what a handler raises to decide how its task ends."""


class Retry(Outcome):
    """Try again later. Counts as an attempt; with none left the task fails.

    ``after`` is in seconds or a timedelta; without it the handler's backoff decides.
    """

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None) -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if seconds is not None and seconds < 0:
            raise ValueError(f"Retry(after={after!r}): the time must not be negative.")
        self.after = seconds
        self.reason = reason
        super().__init__(reason or "asked to be tried again")


class Fail(Outcome):
    """Give up now, whatever attempts are left. ``reason`` is the one line that staff read."""

    def __init__(self, reason: str = "given up by the handler") -> None:
        self.reason = reason
        super().__init__(reason)


class Cancel(Outcome):
    """The task need not be done any more. ``reason`` is the one line that staff read."""

    def __init__(self, reason: str = "withdrawn by the handler") -> None:
        self.reason = reason
        super().__init__(reason)


class Snooze(Outcome):
    """Go on later: nothing failed, the attempt does not count, what was logged stays.

    ``after`` is in seconds or a timedelta. The handler is called anew then, so it must have stored
    how far it came. Nothing ends a task that snoozes for ever.
    """

    def __init__(self, after: float | timedelta) -> None:
        seconds = after.total_seconds() if isinstance(after, timedelta) else after
        if not seconds >= 0:
            raise ValueError(f"Snooze({after!r}): the time must not be negative.")
        self.after = seconds
        super().__init__(f"goes on in {seconds:g} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """A registered handler with its options; times in seconds."""

    name: str
    function: Callable[..., Any]
    queue: str | None
    priority: int
    max_attempts: int | None
    timeout: float | None
    atomic: bool
    backoff: Backoff | None
    title: str
    on_failure: str
    runbook: str
    repeat: str
    search: tuple[str, ...]
    validate: Callable[[dict[str, Any]], object] | None
    is_async: bool

    @property
    def path(self) -> str:
        """Dotted path of the function."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    def delay_after(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number ``attempt`` (from 1).

        Exponential with "equal jitter": half of the step is fixed, half random (M. Brooker,
        "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
        """
        if callable(self.backoff):
            return max(0.0, float(self.backoff(attempt)))
        base = aftersave_settings.BACKOFF_BASE if self.backoff is None else self.backoff
        step: float = min(aftersave_settings.BACKOFF_MAX, base * 2.0 ** min(attempt - 1, 60))
        return step / 2 + random.uniform(0, step / 2)


class Registry:
    """Handlers by task name."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add(self, handler: Handler) -> None:
        """Register ``handler``. Raises DuplicateHandler when another function has its name."""
        known = self._handlers.get(handler.name)
        if known is not None and known.path != handler.path:
            raise DuplicateHandler(handler.name, known.path, handler.path)
        self._handlers[handler.name] = handler

    def get(self, name: str) -> Handler | None:
        """The handler of ``name``, or None."""
        return self._handlers.get(name)

    def remove(self, name: str) -> None:
        """Forget the handler of ``name``."""
        self._handlers.pop(name, None)

    def __iter__(self) -> Iterator[Handler]:
        return iter(list(self._handlers.values()))

    def names(self, *, is_async: bool) -> list[str]:
        """Sorted names of the async or of the sync handlers."""
        return sorted(h.name for h in self if h.is_async is is_async)


registry = Registry()


def handler(
    name: str,
    *,
    queue: str | None = None,
    priority: int = 0,
    max_attempts: int | None = None,
    timeout: float | None = None,
    atomic: bool = False,
    backoff: Backoff | None = None,
    title: str = "",
    on_failure: str = "",
    runbook: str = "",
    repeat: str = "",
    search: Iterable[str] = (),
    validate: Callable[[dict[str, Any]], object] | None = None,
) -> Callable[[Function], Function]:
    """Register a function, sync or async, as what performs the tasks called ``name``.

    ``queue``: the lane its tasks go to. ``priority``: higher first inside the queue.
    ``max_attempts``: executions before the task fails, at least 1. ``timeout``: seconds one
    attempt may take (kept and shown, not enforced yet). ``atomic``: the function's own writes to
    the task's database and "completed" commit together. ``backoff``: seconds of the first wait,
    doubled each time, or a function from the number of the failed attempt to seconds. ``title``:
    what staff read. ``on_failure``: one sentence of advice beside a failure; ``runbook``: an
    http(s) address with more. ``repeat``: what doing a completed task again may cause ("may send
    the mail twice"). ``search``: dotted keys of the data, at most 10, by which staff find its tasks
    ("customer.id"). ``validate``: called with data that staff changed, before it is stored; raises
    ValueError with what is wrong.

    Names that begin with ``aftersave.`` are Aftersave's own.

    Raises InvalidName, InvalidHandler, and DuplicateHandler.
    """
    type_, _ = split_name(name)
    options = {"queue": queue, "priority": priority, "max_attempts": max_attempts}
    keys = (search,) if isinstance(search, str) else tuple(search)
    wrong = (
        wrong_option(timeout=timeout, **options)
        or wrong_backoff(backoff)
        or wrong_text(title=title, on_failure=on_failure, repeat=repeat)
        or wrong_for_people(runbook, keys, validate)
    )
    if wrong:
        raise InvalidHandler(f"Handler {name!r}: {wrong}.")

    def register(function: Function) -> Function:
        is_own = getattr(function, "__module__", "").startswith("tasks.")
        if type_ == OWN and not is_own:
            raise InvalidHandler(f"Handler {name!r}: names that begin with '{OWN}.' are reserved.")
        is_async = _is_async(name, function)
        if atomic and is_async:
            raise InvalidHandler(
                f"Handler {name!r} is a coroutine, so it cannot be atomic=True: a transaction "
                "belongs to one thread. Make it a plain function, or leave atomic out."
            )
        registry.add(
            Handler(
                name=name,
                function=function,
                queue=OWN if type_ == OWN else queue,
                priority=priority,
                max_attempts=max_attempts,
                timeout=timeout,
                atomic=atomic,
                backoff=backoff,
                title=title,
                on_failure=on_failure,
                runbook=runbook,
                repeat=repeat,
                search=keys,
                validate=validate,
                is_async=is_async,
            )
        )
        return function

    return register


def _is_async(name: str, function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` gives a coroutine. Raises InvalidHandler for generators."""
    called = function if inspect.isroutine(function) else type(function).__call__
    either = (function, called)
    if any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in either):
        raise InvalidHandler(
            f"Handler {name!r} contains yield, so calling it would run none of it. Rules yield "
            "tasks; a handler does its work and returns."
        )
    return any(inspect.iscoroutinefunction(f) for f in either)
