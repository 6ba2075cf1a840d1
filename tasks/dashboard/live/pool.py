"""Threads that ask the database for the sockets, so that the event loop never waits for it."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")
_Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]

THREADS = 2
#: A thread without work closes its connections after so many seconds and ends.
IDLE = 5.0


class Pool:
    """At most ``THREADS`` threads. They keep their connections while there is work."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0

    async def run(self, job: Callable[[], T]) -> T:
        """What ``job()`` returns or raises in one of the threads."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._jobs.put((job, future, loop))
            if not self._idle and self._threads < THREADS:
                self._threads += 1
                threading.Thread(target=self._work, name="live pages", daemon=True).start()
        return await future

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            job, future, loop = taken
            try:
                _look_after_connections()
                value, error = job(), None
            except BaseException as raised:
                value, error = None, raised
            _keep_connections()
            # A loop that has ended needs no answer.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, future, value, error)
            del job, future, loop, taken, value, error
        connections.close_all()

    def _next(self) -> _Job | None:
        with self._lock:
            self._idle += 1
        try:
            return self._jobs.get(timeout=IDLE)
        except queue.Empty:
            pass
        finally:
            with self._lock:
                self._idle -= 1
        with self._lock:
            try:
                return self._jobs.get_nowait()
            except queue.Empty:
                self._threads -= 1
                return None


def _look_after_connections() -> None:
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()


def _keep_connections() -> None:
    # CONN_MAX_AGE is meant for requests; to connect anew for each update would cost more than it.
    for connection in connections.all(initialized_only=True):
        connection.close_at = None


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)
