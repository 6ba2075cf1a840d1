"""One open page: what it was sent, and what it must be sent now."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from tasks.dashboard.live.render import Picture
from tasks.dashboard.live.tickets import Ticket
from tasks.dashboard.live.watch import Watch
from tasks.dashboard.page import pages
from tasks.dashboard.viewer import Viewer

#: A page in a hidden tab is sent something new at most once in so many seconds.
HIDDEN_PAUSE = 5.0
#: A page that shows more rows than this is told of those alone.
MOST_SHOWN = 500

_numbers = itertools.count(1)


class Socket:
    """What one reader has before them. ``news`` is set when there may be something to send."""

    def __init__(
        self, ticket: Ticket, viewer: Viewer, send: Callable[[str], Awaitable[None]]
    ) -> None:
        self.ticket = ticket
        self.viewer = viewer
        self.news = asyncio.Event()
        self.shown: frozenset[int] = frozenset()
        self.has_whole = False
        self.ended_with: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._asked_at = time.monotonic()
        self._wants_rows = False
        self._is_hidden = False
        self._send = send
        self._sent: dict[str, str] = {}
        self._told_lost: set[int] = set()
        self._sent_here: list[int] | None = None
        self._sent_at = 0.0
        self._said: tuple[str, bool, bool] | None = None
        self._rows_part = pages[ticket.page].rows_part

    def start_over(self) -> None:
        """What was sent does not count any more: the next message is the whole region."""
        self.has_whole = False
        self._asked_at = time.monotonic()
        self._sent.clear()
        self._told_lost.clear()

    def end(self, code: int) -> None:
        """Close it with this code."""
        if not self.ended_with.done():
            self.ended_with.set_result(code)

    def tell(self, said: dict[str, Any], watch: Watch) -> None:
        """Heed what the reader's page says: which rows it shows, whether it is hidden, what it
        wants."""
        if "shown" in said:
            self.shown = frozenset(shown_ids(said["shown"]))
            if watch.whole and not _elements(self.shown) <= watch.whole.rendering.rows.keys():
                watch.look()
        if "hidden" in said:
            self._is_hidden = bool(said["hidden"])
        if said.get("want") == "rows":
            self._wants_rows = True
        if said.get("want") == "whole":
            self.start_over()
            watch.look()
        self.news.set()

    async def send_news(self, watch: Watch, way: str) -> None:
        """Send what changed since the last message, if anything did."""
        if self._is_hidden and self.has_whole and not self._wants_rows:
            wait = self._sent_at + HIDDEN_PAUSE - time.monotonic()
            if wait > 0:
                asyncio.get_running_loop().call_later(wait, self.news.set)
                return
        picture = watch.latest if self.has_whole else watch.whole
        if picture is None or not (self.has_whole or watch.whole_since >= self._asked_at):
            return
        message = self._difference(picture, watch.whole)
        state = (way, watch.is_busy, watch.in_trouble)
        if message or state != self._said:
            self._said = state
            self._sent_at = time.monotonic()
            message |= {"busy": watch.is_busy, "trouble": watch.in_trouble}
            message |= {"seq": next(_numbers), "now": picture.now, "how": way}
            await self._send(json.dumps(message))

    async def beat(self) -> None:
        """Say that we are here."""
        await self._send("{}")

    def _difference(self, picture: Picture, whole: Picture | None) -> dict[str, Any]:
        message: dict[str, Any] = {}
        rendering = picture.rendering
        first = not self.has_whole
        wants_rows = first or self._wants_rows
        parts = dict(rendering.parts)
        if self._rows_part:
            parts.pop(self._rows_part, None)
            if wants_rows and whole is not None:
                parts[self._rows_part] = whole.rendering.parts[self._rows_part]
                self._sent.pop(self._rows_part, None)
                here = _elements(whole.rendering.here or ())
                self._sent.update({row: whole.rendering.rows[row] for row in here})
        changed = self._unsent(parts)
        rows = self._unsent(rendering.rows, _elements(self.shown))
        if changed or rows or first:
            message["parts"] = _pairs(changed)
            message["rows"] = _pairs(rows)
            message["note"] = rendering.note
        lost = (self.shown & set(rendering.lost)) - self._told_lost
        if lost:
            message["lost"] = sorted(lost)
            self._told_lost |= lost
        if rendering.here is not None and (wants_rows or rendering.here != self._sent_here):
            message["here"] = self._sent_here = rendering.here
        if first:
            message["whole"] = self.has_whole = True
        self._wants_rows = False
        return message

    def _unsent(
        self, elements: dict[str, str], only: Collection[str] | None = None
    ) -> dict[str, str]:
        fresh = {
            element: html
            for element, html in elements.items()
            if (only is None or element in only) and self._sent.get(element) != html
        }
        self._sent.update(fresh)
        return fresh


def shown_ids(given: Any) -> list[int]:
    """Task ids out of what a page says it shows; what makes no sense is left out."""
    if not isinstance(given, list):
        return []
    return [one for one in given[:MOST_SHOWN] if isinstance(one, int) and 0 < one < 2**63]


def _elements(ids: Collection[int]) -> set[str]:
    return {f"af-task-{task_id}" for task_id in ids}


def _pairs(elements: dict[str, str]) -> list[dict[str, str]]:
    return [{"id": element, "html": html} for element, html in elements.items()]
