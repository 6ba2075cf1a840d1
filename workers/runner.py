"""The worker process: one engine thread that claims, hands out, writes down and keeps time."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.models import F
from django.db.utils import Error as DatabaseError

from tasks.conf import aftersave_settings
from tasks.models import Queue, Task
from workers import log
from workers.attempt import Attempt, Clock
from workers.capture import capture_logging
from workers.claim import claim
from workers.finish import RETURNED, Flusher, mark_started
from workers.hands import Hands
from workers.lanes import Lanes
from workers.look import SERVER_SETTLES, Seen, look
from workers.membership import Membership
from workers.prune import prune
from workers.rescue import SECOND_LOOK, Suspicion, declare_dead, make_due, release_orphans
from workers.waiting import Alarm

LOOK_EVERY = 1.1
#: Without rings an idle worker looks after these many seconds first, then doubles up to LOOK_EVERY.
FIRST_POLL = 0.05
PRUNE_EVERY = 600.0
NAP = 0.005
UNWRITTEN_LIMIT = 5000
LONGEST_PAUSE = 5.0


@dataclass(kw_only=True)
class Options:
    """How a worker process runs; ``grace`` in seconds, None for AFTERSAVE["GRACE"]."""

    using: str = "default"
    queues: list[str] = field(default_factory=list)
    threads: int = 4
    coroutines: int = 100
    drain: bool = False
    grace: float | None = None


class Runner:
    """Runs due tasks of one database until it is told to stop, or with ``drain`` none is left.

    ``pipe``: a file descriptor; when its other end closes, the runner stops. ``announce`` is
    called with each id the worker takes.
    """

    def __init__(
        self,
        options: Options,
        *,
        pipe: int | None = None,
        announce: Callable[[int], object] = lambda worker_id: None,
    ) -> None:
        self.options = options
        self.using = options.using
        self.announce = announce
        self.alarm = Alarm(pipe)
        self.clock = Clock()
        self.flusher = Flusher(options.using, self.alarm.wake)
        self.hands = Hands(
            self.flusher, self.clock, threads=options.threads, coroutines=options.coroutines
        )
        self.lanes = Lanes(options.queues)
        self.membership = Membership(
            options.using, options.queues, options.threads, options.coroutines
        )
        self.suspicion = Suspicion()
        self.known_queues: set[str] = set()
        self.look_at = 0.0
        self.poll = FIRST_POLL
        self.timer_at: float | None = None
        self.prune_at = time.monotonic() + random.uniform(10, PRUNE_EVERY)
        self.passed_over: set[str] = set()
        self.claimed = 0
        self.drained = False
        self.stop_by: float | None = None
        self.said_stopping = False
        self.in_a_hurry = False
        self.failed_turns = 0

    def run(self) -> None:
        """Work until stopped; returns when nothing of this worker is running any more."""
        self._handle_signals()
        capture_logging()
        self._begin()
        while not self._finished():
            try:
                self._turn()
                self.failed_turns = 0
            except DatabaseError as error:
                self._survive(error)
        self._end()

    def stop(self, *_: Any) -> None:
        """Claim no more, finish what runs within the grace."""
        grace = aftersave_settings.GRACE if self.options.grace is None else self.options.grace
        self.stop_by = self.stop_by or time.monotonic() + grace
        self.alarm.wake()

    def _heed_orders(self) -> None:
        if (self.alarm.orphaned or self.alarm.orders) and self.stop_by is None:
            self.stop()
        self.in_a_hurry = self.alarm.orders > 1

    def _handle_signals(self) -> None:
        signal.signal(signal.SIGTERM, self.stop)
        # A terminal sends Ctrl-C to the whole group; the supervisor decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def _begin(self) -> None:
        while not self.membership.id and self.stop_by is None:
            try:
                self.membership.open_session()
                self.alarm.listen_to(self.membership.ear)
                self._register()
            except DatabaseError as error:
                self.membership.id = 0
                self.failed_turns += 1
                self._pause(error, self.failed_turns)

    def _register(self) -> None:
        worker_id = self.membership.register()
        self.announce(worker_id)
        queues = ", ".join(self.options.queues) or "every queue"
        log.started(worker_id, self.using, queues, self.options.threads, self.options.coroutines)

    def _turn(self) -> None:
        now = time.monotonic()
        self._listen(now)
        self._collect(now)
        self._flush(now)
        self.hands.return_unstarted()
        if self.stop_by is None:
            self.hands.start_last_attempts(self._mark)
            self._claim()
        elif not self.said_stopping:
            self.said_stopping = True
            log.stopping(self.membership.id, len(self.hands.held()), round(self.stop_by - now))
        self._keep_time(time.monotonic())
        self._rest()

    def _listen(self, now: float) -> None:
        ear = self.membership.ear
        heard = set(ear.rung()) if ear else set()
        if heard & {"", "*"}:
            self.look_at = now
        self.lanes.rung(heard - {"", "*"}, now)
        self.lanes.look_again(now)
        self._heed_orders()

    def _collect(self, now: float) -> None:
        for later in self.hands.collect():
            wait = (later.run_at - self.clock.now()).total_seconds()
            self.timer_at = min(self.timer_at or now + wait, now + wait)

    def _flush(self, now: float) -> None:
        due_at = self.flusher.due_at()
        if due_at is not None and (due_at <= now or not self.hands.busy):
            self.flusher.flush(self.membership.id)

    def _mark(self, attempt: Attempt) -> bool:
        return mark_started(self.using, self.membership.id, attempt)

    def _claim(self) -> None:
        while self.lanes and len(self.flusher) < UNWRITTEN_LIMIT:
            appetite = self.hands.appetite()
            if appetite is None:
                return
            limit, names = appetite
            if names is None and self.passed_over:
                self.lanes.add(self.passed_over)
                self.passed_over.clear()
            queue = self.lanes.next()
            if queue is None:
                return
            tasks = claim(self.using, queue, limit, self.membership.id, names, self.hands.excluded)
            self.claimed += len(tasks)
            self.hands.give_out(tasks)
            if len(tasks) < limit:
                self.lanes.empty(queue)
                if names is not None:
                    self.passed_over.add(queue)
            if tasks:
                self.poll = FIRST_POLL

    def _keep_time(self, now: float) -> None:
        if self.timer_at is not None and self.timer_at <= now:
            self.timer_at = None
            self.lanes.add(make_due(self.using))
            self.look_at = now
        if self.look_at <= now or (self.options.drain and self._is_idle()):
            self._look(now)
        if self.prune_at <= now and self.stop_by is None:
            self.prune_at = now + random.uniform(0.5, 1.5) * PRUNE_EVERY
            log.pruned(prune(self.using))

    def _look(self, now: float) -> None:
        idle_before = not self.claimed and self._is_idle()
        seen = look(self.using, self.membership.id)
        if not seen.alive:
            self._declared_dead()
            return
        self.clock.measure(seen.now)
        self._take_note(seen, now)
        # Counted from the end of the look: counted from its start the second would be too early.
        pace = SECOND_LOOK if self.suspicion.pending else self._pace()
        self.look_at = time.monotonic() + pace
        nothing_due = self.timer_at is None or self.timer_at > now
        if self.options.drain and idle_before and nothing_due and not self._claimable(seen):
            self.drained = True
        self.claimed = 0

    def _is_idle(self) -> bool:
        return not (self.hands.busy or len(self.flusher) or self.lanes)

    def _take_note(self, seen: Seen, now: float) -> None:
        self.lanes.add(seen.due_queues)
        new = set(seen.due_queues) - self.known_queues
        if new:
            Queue.objects.using(self.using).bulk_create(
                [Queue(name=name) for name in sorted(new)], ignore_conflicts=True
            )
            self.known_queues |= new
        if seen.next_run_at is not None:
            self.timer_at = now + (seen.next_run_at - seen.now).total_seconds()
        dead = self.suspicion.dead(seen)
        if dead:
            declare_dead(self.using, dead)
        elif seen.orphaned:
            release_orphans(self.using)

    def _claimable(self, seen: Seen) -> bool:
        """Whether a claim from the due queues gives anything: names we exclude stay for others."""
        self._claim()
        return bool(self.claimed) or self.hands.busy

    def _pace(self) -> float:
        if self.membership.hears:
            return LOOK_EVERY
        self.poll = min(LOOK_EVERY, self.poll * 2)
        return self.poll

    def _rest(self) -> None:
        if self.hands.overflowing and self.stop_by is None:
            self.alarm.nap(NAP)
            return
        if self._finished() or (self.lanes and self.stop_by is None and self.hands.appetite()):
            return
        moments = (
            self.look_at,
            self.timer_at,
            self.flusher.due_at(),
            self.lanes.look_again(time.monotonic()),
            self.hands.next_last_attempt(),
            self.stop_by,
        )
        now = time.monotonic()
        self.alarm.sleep(min((at for at in moments if at is not None), default=now + 1) - now)

    def _finished(self) -> bool:
        if self.drained or self.in_a_hurry:
            return True
        if self.stop_by is None:
            return False
        written = not self.hands.busy and not len(self.flusher)
        return written or time.monotonic() >= self.stop_by

    def _end(self) -> None:
        """Give back what is left and leave; with the database away others will rescue it."""
        given_back = self.hands.return_all()
        self.hands.collect()
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            try:
                if len(self.flusher):
                    self.flusher.flush(self.membership.id)
                if not len(self.flusher):
                    self.membership.leave()
                    break
            except DatabaseError:
                connections[self.using].close()
            time.sleep(0.05)
        self.alarm.listen_to(None)
        self.membership.close()
        log.stopped(self.membership.id, given_back)

    def _declared_dead(self) -> None:
        log.declared_dead(self.membership.id, self.hands.drop())
        self._register()
        self.look_at = 0.0

    def _survive(self, error: DatabaseError) -> None:
        """Wait for the database; lock first, then ask who we are, then go on."""
        since = time.monotonic()
        while not self._finished():
            self.failed_turns += 1
            self._pause(error, self.failed_turns)
            try:
                self._reopen()
            except DatabaseError as next_error:
                error = next_error
            else:
                log.database_back(time.monotonic() - since)
                return

    def _pause(self, error: DatabaseError, tries: int) -> None:
        pause = min(LONGEST_PAUSE, 0.1 * 2 ** min(tries, 10)) * random.uniform(0.5, 1.0)
        log.database_lost(error, pause)
        # Neither rings nor outcomes that come in meanwhile may cut it short.
        self.alarm.listen_to(None)
        until = time.monotonic() + pause
        while not self._finished() and (left := until - time.monotonic()) > 0:
            self.alarm.sleep(min(left, max(0.0, (self.stop_by or until) - time.monotonic())))
            self._heed_orders()

    def _reopen(self) -> None:
        self.alarm.listen_to(None)
        connections[self.using].close()
        self.membership.open_session()
        self.alarm.listen_to(self.membership.ear)
        self.suspicion.be_blind(SERVER_SETTLES)
        self._return_unknown()
        self.look_at = 0.0

    def _return_unknown(self) -> None:
        """Give back what was claimed for us in a statement whose answer was lost."""
        known = [attempt.task.pk for attempt in self.hands.held()] + self.flusher.pending()
        ours = Task.objects.using(self.using).running().filter(worker_id=self.membership.id)
        ours.exclude(pk__in=known).update(**RETURNED, attempts=F("attempts") - 1)
