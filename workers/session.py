"""The worker's own direct connection on PostgreSQL: it listens, and it holds the worker's lock."""

from __future__ import annotations

from typing import Any

from django.db import connections

from tasks.bell import CHANNEL
from tasks.conf import aftersave_settings


class Session:
    """LISTEN and a session advisory lock whose key is the worker's id.

    The server drops the lock when the connection ends, so whoever finds it free knows that the
    worker is gone. Used by the engine's thread only.
    """

    def __init__(self, alias: str) -> None:
        self._wrapper = connections[alias].copy(alias=f"{alias}-session")
        self._wrapper.connect()
        self._raw: Any = self._wrapper.connection
        self._raw.autocommit = True
        self._heard: list[str] = []
        self._raw.add_notify_handler(self._hear)
        self._raw.execute(f"LISTEN {CHANNEL}")

    def _hear(self, notify: Any) -> None:
        self._heard.append(notify.payload)

    def fileno(self) -> int:
        """For a selector: readable when somebody rang."""
        return int(self._raw.fileno())

    def lock(self, worker_id: int) -> None:
        """Hold the lock of ``worker_id``, and no other."""
        self._raw.execute("SELECT pg_advisory_unlock_all()")
        self._raw.execute("SELECT pg_advisory_lock(%s)", [worker_id])

    def rung(self) -> list[str]:
        """Queue names rung since the last call; "" for the timer, "*" for any. Raises when lost."""
        self._raw.pgconn.consume_input()
        while (notify := self._raw.pgconn.notifies()) is not None:
            self._heard.append(notify.extra.decode(errors="replace"))
        heard, self._heard = self._heard, []
        return [queue for payload in heard for queue in payload.split(",")]

    def close(self) -> None:
        """End it; the lock is free at once."""
        self._wrapper.close()


def open_session(using: str) -> Session | None:
    """A session for workers of ``using``; None where there is none or it is switched off."""
    alias = aftersave_settings.session_alias(using)
    if alias is None or connections[alias].vendor != "postgresql":
        return None
    return Session(alias)
