"""A worker's row and its lock: who it is to the others."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass

from tasks.models import Worker
from tasks.models.clock import DatabaseNow
from workers.session import Session, open_session


@dataclass(slots=True)
class Membership:
    """This worker among the workers of a database."""

    using: str
    queues: list[str]
    threads: int
    coroutines: int
    id: int = 0
    session: Session | None = None

    def open_session(self) -> None:
        """Connect the session where there is one, and lock before anything else is done."""
        self.close_session()
        self.session = open_session(self.using)
        if self.session is not None and self.id:
            self.session.lock(self.id)

    def close_session(self) -> None:
        """Let go of the session; the lock is free then."""
        if self.session is not None:
            self.session.close()
            self.session = None

    def register(self) -> int:
        """Take a new id, its lock, and write the row; returns the id."""
        self.id = 1 + secrets.randbelow(2**53 - 1)
        if self.session is not None:
            self.session.lock(self.id)
        Worker.objects.using(self.using).create(
            id=self.id,
            host=socket.gethostname(),
            pid=os.getpid(),
            queues=self.queues,
            threads=self.threads,
            coroutines=self.coroutines,
            holds_lock=self.session is not None,
        )
        Worker.objects.using(self.using).filter(pk=self.id).update(
            started_at=DatabaseNow(), heartbeat_at=DatabaseNow()
        )
        return self.id

    def leave(self) -> None:
        """Say that this worker stopped in order."""
        Worker.objects.using(self.using).alive().filter(pk=self.id).update(stopped_at=DatabaseNow())
