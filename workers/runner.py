"""The worker process: one engine thread that claims, hands out, writes down and keeps time."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import connections
from django.db.utils import Error as DatabaseError

from tasks import page_bell
from tasks.conf import aftersave_settings
from workers import log
from workers.attempt import Attempt, Clock
from workers.capture import capture_logging
from workers.claim import claim
from workers.finish import Flusher
from workers.hands import Hands
from workers.housekeeping import Housekeeping
from workers.lanes import Lanes
from workers.membership import Membership
from workers.outcomes import mark_started, return_unknown, tell_starts
from workers.sieve import Sieve
from workers.timekeeper import LOOK_EVERY, Timekeeper
from workers.waiting import Alarm

NAP = 0.005
UNWRITTEN_LIMIT = 5000
#: A claim may be committed after its connection was given up; every so often such rows go back.
RECOUNT_EVERY = 30.0
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
        self.times = Timekeeper(self.membership, self.lanes, self.clock)
        self.housekeeping = Housekeeping(options.using)
        self.passed_over: dict[str, list[str]] = {}
        self.sieve = Sieve()
        self.claimed = 0
        self.drained = False
        self.stop_by: float | None = None
        self.said_stopping = False
        self.in_a_hurry = False
        self.failed_turns = 0
        self.recount_at = time.monotonic() + RECOUNT_EVERY

    def run(self) -> None:
        """Work until stopped; returns when nothing of this worker is running any more."""
        self._handle_signals()
        capture_logging()
        self._begin()
        self.housekeeping.start()
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
        self.hands.tally.serve_as(worker_id)
        queues = ", ".join(self.options.queues) or "every queue"
        log.started(worker_id, self.using, queues, self.options.threads, self.options.coroutines)

    def _turn(self) -> None:
        now = time.monotonic()
        self._listen(now)
        self.hands.collect()
        self._flush(now)
        self.hands.return_unstarted()
        if self.stop_by is None:
            self.hands.start_last_attempts(self._mark)
            self._claim()
        elif not self.said_stopping:
            self.said_stopping = True
            log.stopping(self.membership.id, len(self.hands.held()), round(self.stop_by - now))
        self._keep_time(time.monotonic())
        page_bell.tell_rest(self.using)
        self._rest()

    def _listen(self, now: float) -> None:
        ear = self.membership.ear
        heard = set(ear.rung()) if ear else set()
        if heard & {"", "*"}:
            self.times.look_at = now
        self.lanes.rung(heard - {"", "*"}, now)
        self.lanes.look_again(now)
        self._heed_orders()

    def _flush(self, now: float) -> None:
        due_at = self.flusher.due_at(idle=not self.hands.busy)
        if due_at is not None and due_at <= now:
            self.flusher.flush(self.membership.id)
            self._await_laters()
            self._tell_pages()

    def _await_laters(self) -> None:
        for queue, later in self.hands.count_written():
            if later.due:
                self.lanes.add([queue])
            else:
                self.times.note(later)

    def _tell_pages(self) -> None:
        page_bell.changed(self.using, self.hands.ended + self.flusher.spoken)
        self.flusher.spoken.clear()
        # What was locked by somebody is told of again when it is written.
        if not self.flusher.has_left:
            self.hands.ended.clear()

    def _mark(self, attempt: Attempt) -> bool:
        return mark_started(self.using, self.membership.id, attempt)

    def _wanted(self) -> tuple[int, list[str] | None] | None:
        """How many tasks to claim now, and of which names if not of any.

        None unless queues promise work, somebody has a hand free, and outcomes do not pile up.
        """
        if self.stop_by is not None or len(self.flusher) >= UNWRITTEN_LIMIT:
            return None
        appetite = self.hands.appetite()
        if appetite is None:
            return None
        # A queue that had nothing for the hands that were free then may have for those free now.
        other = [queue for queue, names in self.passed_over.items() if names != appetite[1]]
        self.lanes.add(other)
        for queue in other:
            del self.passed_over[queue]
        if self._chooses(appetite[1]) and self.sieve.rests_until(time.monotonic()):
            return None
        return appetite if self.lanes else None

    def _chooses(self, names: list[str] | None) -> bool:
        """Whether names are left out for want of a hand. Who has none for them never waits."""
        return names is not None and self.hands.has_both_kinds

    def _claim(self) -> None:
        # What is wanted changes with time: what was allowed is what is claimed.
        while (wanted := self._wanted()) and (queue := self.lanes.next()):
            limit, names = wanted
            began = time.monotonic()
            tasks = claim(self.using, queue, limit, self.membership.id, names, self.hands.excluded)
            self.sieve.note(
                queue, began, time.monotonic(),
                chose=self._chooses(names), is_full=len(tasks) == limit,
            )  # fmt: skip
            self.claimed += len(tasks)
            page_bell.changed(self.using, {queue: len(tasks)} if tasks else {})
            self.hands.give_out(tasks, of_any_name=names is None)
            if len(tasks) < limit:
                self.lanes.empty(queue)
                if names is not None:
                    self.passed_over[queue] = names
            if tasks:
                self.times.hurry()

    def _keep_time(self, now: float) -> None:
        self.times.promote(now)
        if self.times.look_at <= now or (self.options.drain and self._is_idle()):
            self._look(now)
        if self.stop_by is None:
            self.times.clean_up(now)
        if self.hands.tally.due(now) and self.hands.tally.write(self.using):
            self.housekeeping.soon()

    def _look(self, now: float) -> None:
        idle_before = not self.claimed and self._is_idle()
        if not self.times.look():
            self._declared_dead()
        elif self.options.drain and idle_before and self._nothing_comes_soon():
            # Of the due queues some hold only names that this worker leaves to others.
            self.sieve = Sieve()
            self._claim()
            self.drained = not (self.claimed or self.hands.busy)
        if self.times.sees_work:
            self.housekeeping.soon()
        self.claimed = 0
        self._tell_starts()
        if self.recount_at <= now:
            self._return_unknown()

    def _tell_starts(self) -> None:
        attempts = self.hands.long_running()
        if attempts:
            tell_starts(self.using, self.membership.id, attempts)
            page_bell.changed(self.using, Counter(one.task.queue for one in attempts))

    def _nothing_comes_soon(self) -> bool:
        """Whether nothing is due, nor comes back from a short snooze."""
        return self.times.nothing_is_due(time.monotonic() + LOOK_EVERY)

    def _is_idle(self) -> bool:
        return not (self.hands.busy or len(self.flusher) or self.lanes)

    def _rest(self) -> None:
        if self.hands.overflowing and self.stop_by is None:
            self.alarm.nap(NAP)
            return
        rests_until = self.sieve.rests_until(time.monotonic())
        if self._finished() or self._wanted():
            return
        moments = (
            self.times.next_at(),
            self.flusher.due_at(idle=not self.hands.busy),
            self.lanes.next_look_again(),
            rests_until,
            page_bell.rest_due_at(self.using),
            self.hands.next_last_attempt() if self.stop_by is None else None,
            self.stop_by,
        )
        self.alarm.sleep(min(at for at in moments if at is not None) - time.monotonic())

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
                    self.flusher.flush(self.membership.id, everything=True)
                self.hands.count_written()
                if not len(self.flusher):
                    self.hands.tally.write(self.using)
                    self.membership.leave()
                    break
            except DatabaseError:
                connections[self.using].close()
            time.sleep(0.05)
        self.housekeeping.stop()
        self.alarm.listen_to(None)
        self.membership.close()
        log.stopped(self.membership.id, given_back)

    def _declared_dead(self) -> None:
        log.declared_dead(self.membership.id, self.hands.drop())
        self._register()
        self.times.look_at = 0.0

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
        self._return_unknown()
        self.times.start_over()

    def _return_unknown(self) -> None:
        known = [attempt.task.pk for attempt in self.hands.held()] + self.flusher.pending()
        return_unknown(self.using, self.membership.id, known)
        self.recount_at = time.monotonic() + RECOUNT_EVERY
