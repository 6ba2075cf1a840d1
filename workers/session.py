"""The worker's own direct connection on PostgreSQL: it listens, and it holds the worker's lock."""

from __future__ import annotations

import time
from typing import Any

from django.db import OperationalError, connections

from tasks.bell import CHANNEL, connection_to_listen
from tasks.conf import aftersave_settings

LOCK_TRIES = 20
_END_HOLDER = """
SELECT pg_terminate_backend(pid) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid <> pg_backend_pid()
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid::bigint = %(id)s::bigint >> 32 AND objid::bigint = %(id)s::bigint & 4294967295
"""


class Session:
    """LISTEN and a session advisory lock whose key is the worker's id.

    The server drops the lock when the connection ends, so whoever finds it free knows that the
    worker is gone. Used by the engine's thread only.
    """

    def __init__(self, alias: str) -> None:
        self._wrapper = connection_to_listen(alias, "session")
        self._wrapper.ensure_connection()
        self._raw: Any = self._wrapper.connection
        self._fd = int(self._raw.fileno())
        self._heard: list[str] = []
        with self._wrapper.wrap_database_errors:
            self._raw.autocommit = True
            self._raw.add_notify_handler(self._hear)
            self._raw.execute(f"LISTEN {CHANNEL}")

    def _hear(self, notify: Any) -> None:
        self._heard.append(notify.payload)

    def fileno(self) -> int:
        """For a selector: readable when somebody rang. The same also after the connection broke."""
        return self._fd

    def lock(self, worker_id: int) -> None:
        """Hold the lock of ``worker_id``, and no other.

        Raises OperationalError when another session keeps it, even after it was told to end: the
        server may not have noticed yet that our former connection is gone.
        """
        with self._wrapper.wrap_database_errors:
            self._raw.execute("SELECT pg_advisory_unlock_all()")
            for _ in range(LOCK_TRIES):
                if self._raw.execute("SELECT pg_try_advisory_lock(%s)", [worker_id]).fetchone()[0]:
                    return
                self._raw.execute(_END_HOLDER, {"id": worker_id})
                time.sleep(0.1)
        raise OperationalError(f"The lock of worker {worker_id} is held by another session.")

    def rung(self) -> list[str]:
        """Queue names rung since the last call; "" for the timer, "*" for any. Raises when lost."""
        with self._wrapper.wrap_database_errors:
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
