"""One callback for a whole transaction, given all that was said on the way to its commit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import connections, transaction


def call_after_commit(
    using: str, call: Callable[[str, Any], None], news: set[str] | Counter[str]
) -> None:
    """``call(using, news)`` once ``using``'s transaction commits, with the news of all such calls.

    Outside a transaction at once. Nothing raises into the host.
    """
    connection: Any = connections[using]
    waiting: dict[Any, Any] = connection.__dict__.setdefault("aftersave_waiting", {})
    pending = waiting.get(call)
    if pending is not None and _is_registered(connection, pending):
        pending.update(news)
        return
    waiting[call] = news
    transaction.on_commit(partial(call, using, news), using=using, robust=True)


def _is_registered(connection: Any, pending: object) -> bool:
    """Whether the callback for ``pending`` is still to run: a rolled-back savepoint drops it."""
    return any(
        isinstance(entry[1], partial) and any(pending is given for given in entry[1].args)
        for entry in connection.run_on_commit
    )
