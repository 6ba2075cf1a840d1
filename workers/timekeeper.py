"""What a worker does by the clock: looks, timers, the rescue of others, housekeeping."""

from __future__ import annotations

import random
import time
from datetime import datetime

from tasks.models import Queue
from workers import log
from workers.attempt import Clock, Later
from workers.lanes import Lanes
from workers.look import SERVER_SETTLES, Seen, look
from workers.membership import Membership
from workers.prune import prune_chunk
from workers.rescue import SECOND_LOOK, Suspicion, declare_dead, make_due, release_orphans

LOOK_EVERY = 1.1
#: Without rings an idle worker looks after these many seconds first, then doubles up to LOOK_EVERY.
FIRST_POLL = 0.05
PRUNE_EVERY = 600.0
#: What was overdue and could not be made due is tried again after so many seconds.
TIMER_PAUSE = 0.5


class Timekeeper:
    """Keeps the times of one worker; all moments are time.monotonic()."""

    def __init__(self, membership: Membership, lanes: Lanes, clock: Clock) -> None:
        self.membership = membership
        self.using = membership.using
        self.lanes = lanes
        self.clock = clock
        self.look_at = 0.0
        self.poll = FIRST_POLL
        self.sees_work = False  # in the last look, in any queue
        self._timer_at: float | None = None
        self._not_before = 0.0
        self._prune_at = time.monotonic() + random.uniform(10, PRUNE_EVERY)
        self._prune_after = 0
        self._suspicion = Suspicion()
        self._known_queues: set[str] = set()

    def next_at(self) -> float:
        """When there is something to do next, housekeeping apart."""
        return self.look_at if self._timer_at is None else min(self.look_at, self._timer_at)

    def nothing_is_due(self, now: float) -> bool:
        """Whether no task known to the last look has become due by the clock."""
        return self._timer_at is None or self._timer_at > now

    def note(self, later: Later) -> None:
        """Set the timer for a task that this worker will schedule again."""
        at = self._moment(later.run_at)
        self._timer_at = at if self._timer_at is None else min(self._timer_at, at)

    def _moment(self, run_at: datetime) -> float:
        return time.monotonic() + (run_at - self.clock.now()).total_seconds()

    def hurry(self) -> None:
        """There was work: without rings look again soon."""
        self.poll = FIRST_POLL

    def start_over(self) -> None:
        """After an outage: look at once, and judge nobody by a lock for a while."""
        self._suspicion.be_blind(SERVER_SETTLES)
        self.look_at = 0.0

    def promote(self, now: float) -> None:
        """Make tasks due whose time has come."""
        if not self.nothing_is_due(now):
            queues = make_due(self.using)
            self.lanes.add(queues)
            self._timer_at = None
            # Promoted none: others were faster, or a host's transaction holds the row.
            self._not_before = 0.0 if queues else now + TIMER_PAUSE
            self.look_at = now if queues else self.look_at

    def clean_up(self, now: float) -> None:
        """Prune now and then, a chunk a turn, so that outcomes and claims do not wait for it."""
        if self._prune_at > now:
            return
        deleted, self._prune_after = prune_chunk(self.using, self._prune_after)
        log.pruned(deleted)
        if not self._prune_after:
            self._prune_at = now + random.uniform(0.5, 1.5) * PRUNE_EVERY

    def look(self) -> bool:
        """Look around and act on it; False when this worker was declared dead."""
        seen = look(self.using, self.membership.id)
        if not seen.alive:
            return False
        self.clock.measure(seen.now)
        self.lanes.add(seen.due_queues)
        self.sees_work = bool(seen.due_queues)
        self._create_queues(set(seen.due_queues) - self._known_queues)
        if seen.next_run_at is not None:
            # Rather late than early: who asks too early must not ask again at once.
            self._timer_at = max(self._moment(seen.next_run_at), self._not_before)
        self._rescue(seen)
        # Counted from the end of the look: counted from its start the second would be too early.
        pace = SECOND_LOOK if self._suspicion.pending else self._pace()
        self.look_at = time.monotonic() + pace
        return True

    def _create_queues(self, names: set[str]) -> None:
        if names:
            Queue.objects.using(self.using).bulk_create(
                [Queue(name=name) for name in sorted(names)], ignore_conflicts=True
            )
            self._known_queues |= names

    def _rescue(self, seen: Seen) -> None:
        dead = self._suspicion.dead(seen)
        if dead:
            declare_dead(self.using, dead)
        elif seen.orphaned:
            release_orphans(self.using)

    def _pace(self) -> float:
        if self.membership.hears:
            return LOOK_EVERY
        self.poll = min(LOOK_EVERY, self.poll * 2)
        return self.poll
