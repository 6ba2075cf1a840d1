"""Handlers: the functions that perform tasks, found by task name. Knows nothing of the ORM."""

from __future__ import annotations

import inspect
import math
import random
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from django.utils.functional import Promise

from tasks.conf import aftersave_settings
from tasks.exceptions import DuplicateHandler, InvalidHandler, InvalidName
from tasks.redact import is_secret_key

Function = TypeVar("Function", bound=Callable[..., Any])
Backoff = float | Callable[[int], float]

TYPE_LENGTH = 60
ACTION_LENGTH = 120
MOST_SEARCH_KEYS = 10
_SEARCH_KEY = re.compile(r"(?=.{1,100}$)[\w-]+(\.[\w-]+)*")
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")
#: Type and queue of Aftersave's own tasks. Every worker serves the queue, and nobody can pause it.
OWN = "aftersave"

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
        or _wrong_backoff(backoff)
        or _wrong_text(title=title, on_failure=on_failure, repeat=repeat)
        or _wrong_for_people(runbook, keys, validate)
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


def wrong_option(
    *, queue: Any = None, priority: Any = None, max_attempts: Any = None, timeout: Any = None
) -> str | None:
    """What is wrong with an option of a handler or a task, in half a sentence; None if nothing."""
    if queue is not None and not _is_queue_name(queue):
        return f"queue={queue!r}, but a queue's name has 1 to 64 printable characters and no comma"
    if queue == OWN:
        return f"queue={queue!r}, but that one is for Aftersave's own tasks"
    if priority is not None and not _is_integer(priority, -(2**15), 2**15 - 1):
        return f"priority={priority!r}, but a priority is a whole number from -32768 to 32767"
    if max_attempts is not None and not _is_integer(max_attempts, 1, 2**30):
        return f"max_attempts={max_attempts!r}, but it is a whole number, at least 1"
    if timeout is not None and not (_is_number(timeout) and timeout > 0):
        return f"timeout={timeout!r}, but a timeout is a number of seconds above 0"
    return None


def _wrong_backoff(backoff: Any) -> str | None:
    is_number = _is_number(backoff) and backoff >= 0
    if backoff is None or is_number or _is_plain_function(backoff):
        return None
    return (
        f"backoff={backoff!r}, but it is a number of seconds, not negative, or a plain function "
        "from the number of the failed attempt to seconds"
    )


def _wrong_text(**texts: Any) -> str | None:
    for option, text in texts.items():
        # A translation is not looked at, only at what it is: languages are not known yet.
        if text is not None and not isinstance(text, str | Promise):
            return f"{option}={text!r}, but it is a text that staff read"
    return None


def _wrong_for_people(runbook: Any, search: tuple[Any, ...], validate: Any) -> str | None:
    if runbook and not re.match(r"https?://\S+$", str(runbook)):
        return f"runbook={runbook!r}, but a runbook is an address that starts with http(s)://"
    bad = [key for key in search if not (isinstance(key, str) and _SEARCH_KEY.fullmatch(key))]
    if bad or len(search) > MOST_SEARCH_KEYS:
        return (
            f"search={list(search)!r}, but it names at most {MOST_SEARCH_KEYS} keys of the data, "
            "joined by dots, 100 characters each"
        )
    secret = [key for key in search if is_secret_key(key)]
    if secret:
        return f"search={secret!r}, but what stands under such a key is hidden, so nobody finds it"
    if validate is not None and not _is_plain_function(validate):
        return f"validate={validate!r}, but it is a plain function that takes the data"
    return None


def _is_plain_function(value: Any) -> bool:
    """Whether it can be called; of a coroutine nobody would wait for what it says."""
    return callable(value) and not inspect.iscoroutinefunction(value)


def _is_queue_name(value: Any) -> bool:
    return (
        isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable() and "," not in value
    )


def _is_integer(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def split_name(name: str) -> tuple[str, str]:
    """``"email.order.sent"`` → ``("email", "order.sent")``. Raises InvalidName."""
    if not isinstance(name, str):
        raise InvalidName(name, "it is not text")
    if "." not in name:
        raise InvalidName(name, "it has no dot")
    if not _NAME.fullmatch(name):
        raise InvalidName(name, "only letters, digits, '_', '-' and single dots may stand in it")
    type_, action = name.split(".", 1)
    if len(type_) > TYPE_LENGTH or len(action) > ACTION_LENGTH:
        raise InvalidName(
            name, f"type may have {TYPE_LENGTH} characters and action {ACTION_LENGTH}"
        )
    return type_, action
