"""What options of handlers and tasks may be. Each gives half a sentence, None if all is well."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

from django.utils.functional import Promise

from tasks.names import OWN
from tasks.redact import is_secret_key

MOST_SEARCH_KEYS = 10
_SEARCH_KEY = re.compile(r"(?=.{1,100}$)[\w-]+(\.[\w-]+)*")


def wrong_option(
    *, queue: Any = None, priority: Any = None, max_attempts: Any = None, timeout: Any = None
) -> str | None:
    """What is wrong with an option of a handler or a task."""
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


def wrong_backoff(backoff: Any) -> str | None:
    """What is wrong with a handler's ``backoff``."""
    is_number = _is_number(backoff) and backoff >= 0
    if backoff is None or is_number or _is_plain_function(backoff):
        return None
    return (
        f"backoff={backoff!r}, but it is a number of seconds, not negative, or a plain function "
        "from the number of the failed attempt to seconds"
    )


def wrong_text(**texts: Any) -> str | None:
    """What is wrong with an option that is text."""
    for option, text in texts.items():
        # A translation is not looked at, only at what it is: languages are not known yet.
        if text is not None and not isinstance(text, str | Promise):
            return f"{option}={text!r}, but it is a text that staff read"
    return None


def wrong_for_people(runbook: Any, search: tuple[Any, ...], validate: Any) -> str | None:
    """What is wrong with the other options that a handler has for staff."""
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
