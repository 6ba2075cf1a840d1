"""Where handlers run: threads for sync ones, one event loop for async ones."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.utils import Error as DatabaseError

from tasks.models import State
from workers.attempt import Attempt, Outcome
from workers.execute import execute, execute_async

Report = Callable[[Attempt, Outcome], None]
_RATE_WINDOW = 1.0
#: Prefetch at most what starts in so many seconds at the last second's rate.
PREFETCH = 0.050


class Slots(ABC):
    """One kind of slots: how many attempts it holds, how fast it starts them."""

    def __init__(self, size: int, report: Report) -> None:
        self.size = size
        self.held: set[Attempt] = set()
        self._report = report
        self._waiting: deque[Attempt] = deque()
        # When their end was counted, how many, and when the first of them was claimed.
        self._ends: deque[tuple[float, int, float]] = deque()
        self._count = 0
        self._first_claimed = 0.0

    def capacity(self) -> int:
        """How many more attempts to claim now: free slots and a bounded prefetch."""
        if self.size == 0:
            return 0
        return self.size + int(self._rate() * PREFETCH) - len(self.held)

    def wants(self) -> bool:
        """Whether it is time to claim: something is free, and the prefetch is half used."""
        prefetch = int(self._rate() * PREFETCH)
        return self.size > 0 and len(self.held) < self.size + (prefetch + 1) // 2

    def hold(self, attempt: Attempt) -> None:
        """Count ``attempt`` in; ``start`` follows."""
        self.held.add(attempt)

    def start(self, *attempts: Attempt) -> None:
        """Run ``attempts`` in this order as soon as slots are free."""
        self._waiting.extend(attempts)
        self._wake(len(attempts))

    def withdraw(self, older_than: float) -> list[Attempt]:
        """Take back what has not started and was claimed before ``older_than`` (monotonic)."""
        stale: list[Attempt] = []
        with suppress(IndexError):
            # Only peeking: a thread that meanwhile finds nothing here goes to sleep.
            while self._waiting[0].claimed < older_than:
                stale.append(self._waiting.popleft())
        return stale

    def done(self, attempt: Attempt) -> None:
        """The engine has taken note of the outcome of ``attempt``."""
        self.held.discard(attempt)
        if not self._count:
            self._first_claimed = attempt.claimed
        self._count += 1

    def _rate(self) -> float:
        """Attempts ended a second, over the last second; at the start over what there was of it."""
        now = time.monotonic()
        if self._count:
            self._ends.append((now, self._count, self._first_claimed))
            self._count = 0
        while self._ends and now - self._ends[0][0] > _RATE_WINDOW:
            self._ends.popleft()
        if not self._ends:
            return 0.0
        # From the first claim, not the first end: one attempt of 10 ms is not 1,000 a second.
        span = min(_RATE_WINDOW, max(now - self._ends[0][2], 0.001))
        return sum(count for _, count, _ in self._ends) / span

    @abstractmethod
    def _wake(self, attempts: int) -> None:
        """So many attempts more are waiting."""


class Threads(Slots):
    """Sync handlers, one a thread; a thread keeps its database connections."""

    def __init__(self, size: int, report: Report) -> None:
        super().__init__(size, report)
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._lock = threading.Lock()
        self._calls: SimpleQueue[None] = SimpleQueue()

    def _wake(self, attempts: int) -> None:
        # A call for each sleeping thread, not for each attempt: calls cost more than short tasks.
        with self._lock:
            called = min(self._idle, attempts)
            self._idle -= called
        for _ in range(called):
            self._calls.put(None)
        for _ in range(min(self.size, len(self.held)) - len(self._threads)):
            thread = threading.Thread(target=self._work, name="handler", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            try:
                attempt = self._waiting.popleft()
            except IndexError:
                self._sleep()
                continue
            # A context of its own: what a handler activates (a language, a zone) ends with it.
            outcome = contextvars.copy_context().run(execute, attempt)
            tidy_connections()
            self._report(attempt, outcome)

    def _sleep(self) -> None:
        with self._lock:
            self._idle += 1
        # Work that came before we counted as idle was not called out for us.
        if not self._waiting:
            self._calls.get()
            return
        with self._lock:
            if self._idle > 0:
                self._idle -= 1


class Coroutines(Slots):
    """Async handlers, up to ``size`` at once on one event loop in a thread of its own."""

    def __init__(self, size: int, report: Report) -> None:
        super().__init__(size, report)
        self._running: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def _wake(self, attempts: int) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            run = self._loop.run_forever
            threading.Thread(target=run, name="coroutines", daemon=True).start()
        self._loop.call_soon_threadsafe(self._fill)

    def _fill(self) -> None:
        while len(self._running) < self.size:
            try:
                attempt = self._waiting.popleft()
            except IndexError:
                return
            task = asyncio.get_running_loop().create_task(self._work(attempt))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._fill()

    async def _work(self, attempt: Attempt) -> None:
        outcome = await execute_async(attempt)
        if getattr(outcome, "state", None) != State.COMPLETED:
            await sync_to_async(tidy_connections)()
        self._report(attempt, outcome)


def tidy_connections() -> None:
    """Roll back what a handler left open, drop a connection that broke under it, keep the rest."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        try:
            if connection.in_atomic_block or not connection.get_autocommit():
                # Closing rolls back; Django resets the wrapper when it connects again.
                connection.in_atomic_block = False
                connection.close()
            elif connection.errors_occurred:
                connection.errors_occurred = False
                if not connection.is_usable():
                    connection.close()
        except DatabaseError:
            connection.close()
