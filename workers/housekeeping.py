"""What must not wait for the engine's thread, nor hold it up: sums, pruning, incidents, alerts.

Every worker process has one such thread. It rests while nothing happens, and closes its connection
after each round.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.utils import Error as DatabaseError

from tasks import alerts, incidents, signals, summing
from workers import leftovers, log

#: Seconds between rounds while nothing happens, and while there is work.
QUIET = 600.0
BUSY = 60.0
FIRST = 5.0
#: What operations must hear of at once is collected for so long.
URGENT = 1.0
PRUNE_EVERY = 600.0


class Housekeeping:
    """The thread; ``soon`` may be called from any other."""

    def __init__(self, using: str) -> None:
        self.using = using
        self._changed = threading.Condition()
        # Soon: perhaps this process takes the place of one that was lost.
        self._next_at = time.monotonic() + random.uniform(1.0, FIRST)
        self._prune_at = time.monotonic() + random.uniform(BUSY, PRUNE_EVERY)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        """Begin, and listen for what is urgent."""
        signals.incident_opened.connect(self._hurry)
        signals.worker_lost.connect(self._hurry)
        self._thread.start()

    def stop(self) -> None:
        """End after the round that may be going on; nobody waits for a mail server."""
        signals.incident_opened.disconnect(self._hurry)
        signals.worker_lost.disconnect(self._hurry)
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(0.5)

    def soon(self, seconds: float = BUSY) -> None:
        """Let the next round be within so many seconds."""
        at = time.monotonic() + seconds
        if at < self._next_at:
            with self._changed:
                self._next_at = min(self._next_at, at)
                self._changed.notify()

    def _hurry(self, *, using: str, **fact: Any) -> None:
        if using == self.using:
            self.soon(URGENT)

    def _run(self) -> None:
        while self._wait():
            self.round()
            self._close()

    def _close(self) -> None:
        try:
            connections[self.using].close()
        except Exception:
            # Also of a connection that broke: the thread must live on.
            log.housekeeping_failed("closing")
            connections[self.using].connection = None

    def _wait(self) -> bool:
        with self._changed:
            while not self._stopped and (left := self._next_at - time.monotonic()) > 0:
                self._changed.wait(left)
            self._next_at = time.monotonic() + QUIET * random.uniform(0.5, 1.5)
            return not self._stopped

    def _watch(self, using: str) -> None:
        if alerts.watch(using):
            # A mail that could not be sent is tried again then.
            self.soon(BUSY)

    def round(self) -> None:
        """Do all that is due; what fails is logged and done the next time."""
        jobs: list[tuple[str, Callable[[str], object]]] = [
            ("incidents", incidents.refresh),
            ("sums", summing.sum_up),
        ]
        if self._prune_at <= time.monotonic():
            self._prune_at = time.monotonic() + PRUNE_EVERY * random.uniform(0.5, 1.5)
            jobs.append(("pruning", leftovers.prune))
        # The last one: a mail server may take its time.
        jobs.append(("alerts", self._watch))
        for name, job in jobs:
            try:
                job(self.using)
            except DatabaseError as error:
                log.housekeeping_waits(name, error)
                self._close()
                self.soon(BUSY)
            except Exception:
                log.housekeeping_failed(name)
                self.soon(BUSY)
