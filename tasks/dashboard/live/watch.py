"""A page that somebody looks at: when it is rendered anew, once for all who see the same."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.http import Http404

from tasks.dashboard.live.admission import GONE, NOT_ALLOWED
from tasks.dashboard.live.render import Picture, take_picture
from tasks.dashboard.live.tickets import Ticket
from tasks.page_bell import ANY, LOOK_AGAIN

if TYPE_CHECKING:
    from tasks.dashboard.live.pool import Pool
    from tasks.dashboard.live.socket import Socket

logger = logging.getLogger(__name__)

#: A page is rendered so many times a second for long, and so many times in a row at once.
PACE = 4.5
BURST = 3
#: Above so many changes a second only the numbers move.
BUSY = 100
BUSY_GAP = 0.5
#: A ring may be lost: a page nobody rang for is looked at after so many seconds.
SAFETY = 10.0
AFTER_TROUBLE = 2.0
#: Who waits longer than this for a rendering is told that there is trouble.
LATE = 5.0


class Watch:
    """One page, one likeness; ``sockets`` are those who look."""

    def __init__(
        self, key: Hashable, ticket: Ticket, pool: Pool, look_every: Callable[[], float]
    ) -> None:
        self.key = key
        self.ticket = ticket
        self.sockets: set[Socket] = set()
        self.latest: Picture | None = None
        self.whole: Picture | None = None
        self.whole_since = -math.inf  # when its rendering began
        self.in_trouble = False
        self._has_failed = False
        self._pool = pool
        self._look_every = look_every
        self._due = 0.0
        self._again = 0.0
        self._not_before = 0.0
        self._credit = float(BURST)
        self._credited_at = time.monotonic()
        self._heard: deque[tuple[float, int]] = deque()
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def hear(self, changes: Mapping[str, int], *, again: bool = False) -> None:
        """Something was committed. ``again``: more may have been that nobody tells of."""
        queues = self.whole.queues if self.whole else None
        if queues is None:
            count = sum(changes.values())
        else:
            count = sum(n for queue, n in changes.items() if queue == ANY or queue in queues)
        if count:
            now = time.monotonic()
            self._heard.append((now, count))
            if again:
                self._again = now + LOOK_AGAIN
            self.look(now)

    def look(self, at: float = 0.0) -> None:
        """Render at ``at`` (time.monotonic()), at once, or as soon as the pace allows."""
        if at < self._due:
            self._due = at
            self._wake.set()

    def close(self) -> None:
        """Nobody looks any more."""
        self._task.cancel()

    @property
    def is_busy(self) -> bool:
        """Whether more changes than a reader could follow were heard in the last second."""
        while self._heard and self._heard[0][0] < time.monotonic() - 1.0:
            self._heard.popleft()
        return sum(count for _, count in self._heard) > BUSY

    async def _run(self) -> None:
        while True:
            await self._until_due()
            await self._look()

    async def _until_due(self) -> None:
        while (wait := max(self._due, self._not_before) - time.monotonic()) > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(None if math.isinf(wait) else wait):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _look(self) -> None:
        began = time.monotonic()
        busy = self.is_busy
        self._due = self._again if self._again > began else began + self._look_every()
        wanted = {task_id for socket in self.sockets for task_id in socket.shown}
        numbers_only = busy and all(socket.has_whole for socket in self.sockets)
        viewer = next((socket.viewer for socket in self.sockets), None)
        if viewer is None:
            return
        job = partial(take_picture, self.ticket, viewer, wanted, numbers_only=numbers_only)
        late = asyncio.get_running_loop().call_later(LATE, self._set_trouble)
        try:
            picture = await self._pool.run(partial(_in, self.ticket, job))
        except (Http404, PermissionDenied) as error:
            self._end_all(GONE if isinstance(error, Http404) else NOT_ALLOWED)
            return
        except Exception:
            self._suffer()
            return
        finally:
            late.cancel()
        self._show(picture, began)
        ended = time.monotonic()
        self._not_before = ended + max(self._gap(began), picture.cost, BUSY_GAP if busy else 0.0)
        if numbers_only:
            # The rows catch up when it has become quiet.
            self.look(ended + 1.0)

    def _gap(self, began: float) -> float:
        """How long to wait after a rendering: not at all after one that came alone."""
        earned = (began - self._credited_at) * PACE
        self._credit, self._credited_at = min(float(BURST), self._credit + earned) - 1, began
        return max(0.0, 1 - self._credit) / PACE

    def _show(self, picture: Picture, began: float) -> None:
        self.in_trouble = self._has_failed = False
        self.latest = picture
        if not picture.numbers_only:
            self.whole, self.whole_since = picture, began
        for socket in self.sockets:
            socket.news.set()

    def _end_all(self, code: int) -> None:
        self._due = math.inf
        for socket in list(self.sockets):
            socket.end(code)

    def _suffer(self) -> None:
        if not self._has_failed:
            logger.exception("The page %r could not be rendered anew.", self.ticket.page)
        self._has_failed = True
        self._not_before = time.monotonic() + AFTER_TROUBLE
        self._set_trouble()

    def _set_trouble(self) -> None:
        self.in_trouble = True
        for socket in self.sockets:
            socket.news.set()


def _in(ticket: Ticket, job: Callable[[], Picture]) -> Picture:
    with ticket.surroundings():
        return job()
