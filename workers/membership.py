"""A worker's row and its lock: who it is to the others."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass

from tasks import page_bell
from tasks.models import Worker
from tasks.models.clock import DatabaseNow
from workers.ears import Ears, open_ears
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
    ears: Ears | None = None

    @property
    def ear(self) -> Session | Ears | None:
        """What hears rings, if anything does; to be asked again after ``open_session``."""
        return self.session or self.ears

    @property
    def hears(self) -> bool:
        """Whether rings are heard now, so that frequent polling is not needed."""
        return self.session is not None or (self.ears is not None and self.ears.hears)

    def open_session(self) -> None:
        """Connect the session where there is one, and lock before anything else is done."""
        self.close_session()
        self.session = open_session(self.using)
        if self.session is None:
            # They live on while the database is away.
            self.ears = self.ears or open_ears(self.using)
        elif self.id:
            self.session.lock(self.id)

    def close_session(self) -> None:
        """Let go of the session; the lock is free then."""
        if self.session is not None:
            self.session.close()
            self.session = None

    def close(self) -> None:
        """Let go of the session and the ears."""
        self.close_session()
        if self.ears is not None:
            self.ears.close()
            self.ears = None

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
        page_bell.changed(self.using, {page_bell.ANY: 1})
        return self.id

    def leave(self) -> None:
        """Say that this worker stopped in order."""
        Worker.objects.using(self.using).alive().filter(pk=self.id).update(stopped_at=DatabaseNow())
        page_bell.changed(self.using, {page_bell.ANY: 1})
