"""What a worker holds: attempts waiting for a slot, running, and ended but not written."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from tasks.handlers import registry
from tasks.models import Task
from tasks.names import OWN
from workers import log
from workers.attempt import Attempt, Clock, GivenBack, Later, Outcome, as_datetime
from workers.finish import Flusher
from workers.mix import Mix
from workers.slots import Coroutines, Slots, Threads
from workers.tally import Tally

STALE_AFTER = 1.0
#: The next last attempt starts when the one before was written, or has run for so many seconds:
#: a task that kills its process then takes no other with it.
ALONE = 0.25
MOST_AT_ONCE = 1000
#: Of what is over sooner nobody needs to read since when it runs.
LONG = 1.0
#: A task that snoozes is run at most once in so many seconds.
SHORTEST_ROUND = 0.1


class Hands:
    """The attempts of one worker, from the claim until their outcomes are with the flusher."""

    def __init__(self, flusher: Flusher, clock: Clock, *, threads: int, coroutines: int) -> None:
        self.flusher = flusher
        self.clock = clock
        # Also without threads for the host's handlers one for our own, which are sync.
        self.threads = Threads(threads or 1, self._report)
        self.coroutines = Coroutines(coroutines, self._report)
        self.excluded: set[str] = set()
        self.tally = Tally(clock)
        self.ended: Counter[str] = Counter()  # by queue, for whoever tells pages and clears it
        self._ended: deque[Attempt] = deque()
        self._last: deque[Attempt] = deque()
        self._alone: Attempt | None = None
        self._alone_until = 0.0
        self.mix = Mix()
        # What the last appetite reckoned with.
        self._room: dict[Slots, int] = {}
        known = registry.names(is_async=False)
        own = [name for name in known if name.startswith(f"{OWN}.")]
        self._sync_names = known if threads else own
        self._async_names = registry.names(is_async=True)
        self._names = None if threads else [*own, *self._async_names]
        self.has_both_kinds = bool(threads and coroutines)
        # Aftersave's own handlers must not make the claims of such a host smaller.
        self._is_async_only = len(own) == len(self._sync_names)

    def held(self) -> list[Attempt]:
        """All attempts whose outcome is not known."""
        return [*self.threads.held, *self.coroutines.held]

    def long_running(self) -> list[Attempt]:
        """Those whose handlers have run for a while, and of which no row says so yet."""
        before = time.monotonic() - LONG
        return [
            one
            for one in self.held()
            if 0.0 < one.entered < before and not (one.has_told_start or one.lost)
        ]

    @property
    def busy(self) -> bool:
        """Whether anything is held."""
        return bool(self.threads.held or self.coroutines.held)

    @property
    def overflowing(self) -> bool:
        """Whether attempts wait for slots, so that every slot is sure to be busy."""
        return any(len(slots.held) > slots.size for slots in (self.threads, self.coroutines))

    def appetite(self) -> tuple[int, list[str] | None] | None:
        """How many tasks to claim, and of which names if not of any; None for not now."""
        sync = self.threads.capacity() if self.threads.wants() else 0
        coro = self.coroutines.capacity() if self.coroutines.wants() else 0
        self._room = {self.threads: sync, self.coroutines: coro}
        if not self._async_names:
            return self._of(sync, self._names)
        if self._is_async_only and self.coroutines.size:
            return self._of(coro, self._names if sync else self._async_names)
        if sync and coro:
            return self._of(self.mix.fitting(sync, coro), None)
        return self._of(sync, self._sync_names) or self._of(coro, self._async_names)

    def _of(self, free: int, names: list[str] | None) -> tuple[int, list[str] | None] | None:
        return (min(free, MOST_AT_ONCE), names) if free > 0 and names != [] else None

    def give_out(self, tasks: Sequence[Task], *, of_any_name: bool = True) -> None:
        """Hand claimed tasks to their slots; those without a handler or a slot here go back.

        ``of_any_name``: whether the claim took what came, so that it tells of what there is.
        """
        now = time.monotonic()
        kinds: Counter[Slots] = Counter()
        ready: dict[Slots, list[Attempt]] = {self.threads: [], self.coroutines: []}
        for task in tasks:
            handler = registry.get(task.name)
            if handler is None:
                self._exclude(task)
                continue
            attempt = Attempt(
                task=task, handler=handler, claimed=now, clock=self.clock, say=self.flusher.say
            )
            slots = self._slots(attempt)
            kinds[slots] += 1
            if kinds[slots] > self._room.get(slots, MOST_AT_ONCE):
                # More of this kind came than the mix let expect.
                self._return(task, urgent=True)
                continue
            slots.hold(attempt)
            if attempt.is_last:
                self._last.append(attempt)
            else:
                ready[slots].append(attempt)
        if of_any_name:
            self.mix.add(kinds[self.threads], kinds[self.coroutines])
        for slots, attempts in ready.items():
            if attempts:
                slots.start(*attempts)

    def _exclude(self, task: Task) -> None:
        if task.name not in self.excluded:
            self.excluded.add(task.name)
            log.unknown_name(task.name)
        self._return(task, urgent=True)

    def _return(self, task: Task, *, urgent: bool = False) -> None:
        self.ended[task.queue] += 1
        given_back = GivenBack(task_id=task.pk, lease=task.lease, queue=task.queue)
        self.flusher.push(given_back, urgent=urgent)

    def _slots(self, attempt: Attempt) -> Slots:
        return self.coroutines if attempt.handler.is_async else self.threads

    def start_last_attempts(self, mark: Callable[[Attempt], bool]) -> None:
        """Start last attempts one by one; ``mark`` writes the start first, False if the lease is
        lost."""
        while self._last and self._is_alone():
            # Taken only when marked: the database may fail in between.
            attempt = self._last[0]
            marked = mark(attempt)
            self._last.popleft()
            attempt.has_told_start = marked
            if marked:
                self._alone, self._alone_until = attempt, time.monotonic() + ALONE
                self._slots(attempt).start(attempt)
            else:
                self._slots(attempt).done(attempt)
                log.lease_lost(attempt.task.pk)

    def _is_alone(self) -> bool:
        alone = self._alone
        if alone is None or time.monotonic() >= self._alone_until:
            return True
        return alone not in self._slots(alone).held and not self.flusher.holds(alone.task.pk)

    def next_last_attempt(self) -> float | None:
        """When the next last attempt may start (time.monotonic()), None if none waits."""
        return self._alone_until if self._last else None

    def _report(self, attempt: Attempt, outcome: Outcome) -> None:
        """Called by the slots' threads."""
        if isinstance(outcome, Later):
            _space_out(attempt, outcome)
        # In this order: at every moment the attempt is held or its outcome is with the flusher.
        if not attempt.lost:
            self.flusher.push(outcome, urgent=attempt.is_last, attempt=attempt)
        self._ended.append(attempt)
        self.flusher.wake()

    def collect(self) -> None:
        """Free the slots of what has ended."""
        while self._ended:
            attempt = self._ended.popleft()
            self._slots(attempt).done(attempt)
            self.ended[attempt.task.queue] += 1
            if attempt.lost:
                log.lease_lost(attempt.task.pk)

    def count_written(self) -> list[tuple[str, Later]]:
        """Count the attempts whose outcomes are in the database; returns those to be tried again,
        with their queues."""
        laters: list[tuple[str, Later]] = []
        for attempt, outcome in self.flusher.written:
            self.tally.add(attempt, outcome)
            if isinstance(outcome, Later):
                laters.append((attempt.task.queue, outcome))
        self.flusher.written.clear()
        return laters

    def return_unstarted(self, older_than: float = STALE_AFTER) -> int:
        """Give back what waited for a slot for so many seconds; returns how many."""
        limit = time.monotonic() - older_than
        stale = [*self.threads.withdraw(limit), *self.coroutines.withdraw(limit)]
        while self._last and self._last[0].claimed < limit:
            stale.append(self._last.popleft())
        for attempt in stale:
            self._slots(attempt).done(attempt)
            self._return(attempt.task)
        return len(stale)

    def return_all(self) -> int:
        """Give back also what runs; its outcomes will not count. Returns how many."""
        returned = self.return_unstarted(older_than=-1.0)
        self.collect()
        running = self.held()
        for attempt in running:
            attempt.lost = True
            self._return(attempt.task)
        return returned + len(running)

    def drop(self) -> int:
        """The leases are lost: forget what waits, and disregard what runs. Returns how many."""
        limit = time.monotonic() + 1
        waiting = [*self.threads.withdraw(limit), *self.coroutines.withdraw(limit), *self._last]
        self._last.clear()
        for attempt in waiting:
            self._slots(attempt).done(attempt)
        for attempt in self.held():
            attempt.lost = True
        return len(waiting) + len(self.held()) + len(self.flusher.forget())


def _space_out(attempt: Attempt, later: Later) -> None:
    soonest = as_datetime(attempt.entered_at + SHORTEST_ROUND)
    if later.failure is None and later.run_at < soonest:
        later.run_at, later.due = soonest, False
