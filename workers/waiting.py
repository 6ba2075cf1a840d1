"""How the engine's thread sleeps: until somebody wakes it, rings, or its supervisor is gone."""

from __future__ import annotations

import os
import selectors
import time
from contextlib import suppress
from typing import Protocol


class HasFileno(Protocol):
    """What a selector can watch."""

    def fileno(self) -> int: ...


class Alarm:
    """Wakes the engine's thread from other threads and signal handlers."""

    def __init__(self, pipe: int | None = None) -> None:
        self._selector = selectors.DefaultSelector()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._selector.register(self._read, selectors.EVENT_READ)
        self._pipe = pipe
        if pipe is not None:
            self._selector.register(pipe, selectors.EVENT_READ)
        self._ear: HasFileno | None = None
        self._sleeping = False
        self._rung = False
        self.orphaned = False
        self.orders = 0

    def listen_to(self, ear: HasFileno | None) -> None:
        """Wake also when ``ear`` is readable; before that one is closed, call with None."""
        if self._ear is not None:
            self._selector.unregister(self._ear)
        if ear is not None:
            self._selector.register(ear, selectors.EVENT_READ)
        self._ear = ear

    def wake(self) -> None:
        """End the sleep, or the next one before it begins; any thread."""
        self._rung = True
        if self._sleeping:
            with suppress(BlockingIOError):
                os.write(self._write, b"!")

    def sleep(self, seconds: float) -> None:
        """Sleep at most so long."""
        self._sleeping = True
        timeout = 0.0 if self._rung else max(0.0, seconds)
        for key, _ in self._selector.select(timeout):
            if key.fd == self._pipe:
                self._obey(key.fd)
            elif key.fd == self._read:
                os.read(self._read, 4096)
        self._sleeping = False
        self._rung = False

    def nap(self, seconds: float) -> None:
        """Sleep through every alarm: while much is going on, waking for each event costs more."""
        time.sleep(seconds)
        self.sleep(0)

    def _obey(self, pipe: int) -> None:
        """A byte is the supervisor's order to stop, the second one to stop at once."""
        said = os.read(pipe, 64)
        self.orders += len(said)
        if not said:
            self.orphaned = True
            self._selector.unregister(pipe)
