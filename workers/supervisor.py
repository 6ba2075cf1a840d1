"""Starts runner processes, watches them, replaces those that die, and stops them well."""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.utils import Error as DatabaseError

from tasks.conf import aftersave_settings
from workers import log
from workers.rescue import declare_dead
from workers.runner import Options

LOOK_EVERY = 0.5
QUICK_DEATH = 5.0
LONGEST_PAUSE = 10.0
PAUSE_AFTER_WORK = 0.5
#: What a runner may take beyond its grace to give tasks back and end.
MARGIN = 5.0


class RunnerProcess:
    """One runner: a fresh interpreter, a pipe that tells it we live, a pipe for its ids."""

    def __init__(self, options: Options) -> None:
        ours, self._lifeline = os.pipe()
        self.report, theirs = os.pipe()
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": settings.SETTINGS_MODULE,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        words = [sys.executable, "-m", "workers", json.dumps(asdict(options)), ours, theirs]
        # The child inherits it: Ctrl-C must not end a runner that cannot ignore it yet.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                env=environment,
                pass_fds=(ours, theirs),
                stdin=subprocess.DEVNULL,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(ours)
        os.close(theirs)
        os.set_blocking(self.report, False)
        self.born = time.monotonic()
        self.worker_ids: list[int] = []

    def order_to_stop(self) -> None:
        """Once: well. Twice: at once. Not by signal: a group's runners would hear that twice."""
        with suppress(BrokenPipeError):
            os.write(self._lifeline, b"!")

    def read_report(self) -> None:
        """Note the ids under which the runner has registered."""
        try:
            text = os.read(self.report, 4096)
        except BlockingIOError:
            return
        self.worker_ids += [int(line) for line in text.split()]

    def bury(self) -> list[int]:
        """Close what belonged to the dead process; returns the ids it had."""
        self.read_report()
        os.close(self.report)
        os.close(self._lifeline)
        return self.worker_ids


class Supervisor:
    """Keeps ``processes`` runners alive until SIGTERM or SIGINT, or until they have drained."""

    def __init__(
        self,
        options: Options,
        *,
        processes: int = 1,
        changed: Callable[[], bool] = lambda: False,
    ) -> None:
        self.options = options
        self.changed = changed
        self.runners: list[RunnerProcess] = []
        self.starts: list[float] = [0.0] * processes
        self.quick_deaths = 0
        self.dead: list[int] = []
        self.kill_at: float | None = None
        self._selector = selectors.DefaultSelector()
        self._awake, self._waker = os.pipe()
        os.set_blocking(self._awake, False)
        os.set_blocking(self._waker, False)
        self._selector.register(self._awake, selectors.EVENT_READ)

    def run(self) -> int:
        """Work until told to stop; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        while self.runners or self.dead or (self.starts and self.kill_at is None):
            self._start_due()
            self._sleep()
            self._reap()
            self._rescue()
            self._reload()
            self._enforce_grace()
        return 0

    def _signalled(self, *_: Any) -> None:
        grace = aftersave_settings.GRACE if self.options.grace is None else self.options.grace
        patience = grace if self.kill_at is None else 0.0
        self.kill_at = min(self.kill_at or math.inf, time.monotonic() + patience + MARGIN)
        self._order_to_stop()
        os.write(self._waker, b"!")

    def _order_to_stop(self) -> None:
        for runner in self.runners:
            runner.order_to_stop()

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [at for at in self.starts if at <= now]
        self.starts = [at for at in self.starts if at > now]
        for _ in due:
            if self.kill_at is not None:
                break
            runner = RunnerProcess(self.options)
            self.runners.append(runner)
            self._selector.register(runner.report, selectors.EVENT_READ, runner)
            if self.kill_at is not None:
                runner.order_to_stop()
        if self.kill_at is not None:
            self.starts.clear()

    def _sleep(self) -> None:
        for key, _ in self._selector.select(LOOK_EVERY if not self.starts else 0.05):
            if key.data is None:
                os.read(self._awake, 4096)
            else:
                key.data.read_report()

    def _reap(self) -> None:
        """Take note of runners that ended."""
        for runner in list(self._ended()):
            code = runner.process.wait()
            self.runners.remove(runner)
            self._selector.unregister(runner.report)
            self.dead += runner.bury()
            if self.kill_at is None and not (self.options.drain and code == 0):
                self._replace(runner, code)

    def _ended(self) -> Iterator[RunnerProcess]:
        for runner in self.runners:
            if runner.process.poll() is not None:
                yield runner

    def _replace(self, runner: RunnerProcess, code: int) -> None:
        lived = time.monotonic() - runner.born
        self.quick_deaths = self.quick_deaths + 1 if lived < QUICK_DEATH and code else 0
        # Who never came to work will hardly do so next time; who was killed at work is missed.
        longest = PAUSE_AFTER_WORK if runner.worker_ids else LONGEST_PAUSE
        pause = min(longest, 0.1 * 2 ** min(self.quick_deaths, 10)) if self.quick_deaths else 0.0
        if code:
            log.runner_died(runner.process.pid, code, pause)
        self.starts.append(time.monotonic() + pause)

    def _rescue(self) -> None:
        """What a dead runner held goes back at once; nobody has to wait for its heartbeat."""
        if not self.dead:
            return
        try:
            declare_dead(self.options.using, self.dead)
            self.dead.clear()
        except DatabaseError as error:
            log.database_lost(error, LOOK_EVERY)
            if self.kill_at is not None and not self.runners:
                # Nothing is left to do here; the others will notice these deaths.
                self.dead.clear()
            else:
                time.sleep(LOOK_EVERY)
        finally:
            connections[self.options.using].close()

    def _reload(self) -> None:
        if self.kill_at is None and self.changed():
            self._order_to_stop()

    def _enforce_grace(self) -> None:
        if self.kill_at is not None and time.monotonic() > self.kill_at:
            for runner in self.runners:
                runner.process.kill()


class FileChanges:
    """Says once for each change of a Python file that the project has imported."""

    def __init__(self) -> None:
        from django.utils.autoreload import StatReloader

        self._reloader = StatReloader()
        self._seen = dict(self._reloader.snapshot_files())

    def __call__(self) -> bool:
        now = dict(self._reloader.snapshot_files())
        # What was imported since is new to us and no change.
        changed = any(now.get(file) != at for file, at in self._seen.items())
        self._seen = now
        return changed
