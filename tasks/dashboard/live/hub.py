"""The one place of a web process where changes come in and sockets find the page they watch."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from django.db import router
from django.http import QueryDict

from tasks import page_bell
from tasks.dashboard.grammar import parse
from tasks.dashboard.live.ears import NotifyEars
from tasks.dashboard.live.lookout import look_out
from tasks.dashboard.live.pool import Pool
from tasks.dashboard.live.render import database_of_pages
from tasks.dashboard.live.socket import Socket
from tasks.dashboard.live.tickets import Ticket
from tasks.dashboard.live.watch import SAFETY, Watch
from tasks.dashboard.viewer import Viewer
from tasks.layer import follow
from tasks.models import Task
from tasks.page_bell import ANY, Way

logger = logging.getLogger(__name__)

#: Where nothing rings, a page that somebody watches is rendered anew so often; in seconds.
LOOK_EVERY = 1.0
MOST_SOCKETS = 20
#: For so many seconds an answer about who looks serves all sockets of one page in one session.
SHARED = 1.0


class Hub:
    """Belongs to one event loop. It listens from the first socket to the last."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = Pool()
        # Changes are told of where they are made; pages may be read from a replica.
        self.using = router.db_for_write(Task)
        self.way: Way = "look"
        self._watches: dict[Hashable, Watch] = {}
        self._sessions: Counter[str] = Counter()
        self._stop_listening: Callable[[], object] | None = None
        self._asked: dict[Hashable, tuple[float, asyncio.Task[Viewer]]] = {}

    def enter(self, session: str) -> bool:
        """Count a socket of this session; False when it has too many."""
        if self._sessions[session] >= MOST_SOCKETS:
            return False
        self._sessions[session] += 1
        if self._stop_listening is None:
            self._listen()
        return True

    def leave(self, session: str) -> None:
        """A socket of this session is gone."""
        self._sessions[session] -= 1
        if not self._sessions[session]:
            del self._sessions[session]
        if not self._sessions and self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
            self.way = "look"

    def watch(self, socket: Socket) -> Watch:
        """What shows ``socket`` its page, shared with all who see the same."""
        key = _key(socket)
        watch = self._watches.get(key)
        if watch is None:
            watch = Watch(key, socket.ticket, self.pool, self._look_every)
            self._watches[key] = watch
        watch.sockets.add(socket)
        watch.look()
        return watch

    def unwatch(self, socket: Socket, watch: Watch) -> None:
        """``socket`` looks at something else now."""
        watch.sockets.discard(socket)
        if not watch.sockets and self._watches.get(watch.key) is watch:
            del self._watches[watch.key]
            watch.close()

    async def ask(self, key: Hashable, question: Callable[[], Viewer]) -> Viewer:
        """What ``question`` answers in the pool; who asks the same within a moment shares it."""
        now = time.monotonic()
        self._asked = {k: v for k, v in self._asked.items() if v[0] > now - SHARED}
        if key not in self._asked:
            self._asked[key] = now, asyncio.ensure_future(self.pool.run(question))
        return await asyncio.shield(self._asked[key][1])

    def hear(self, using: str, changes: Mapping[str, int]) -> None:
        """Something was committed; any thread."""
        if using == self.using:
            self._in_loop(self._tell, dict(changes))

    def _in_loop(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop has ended, and so have its sockets.
            _forget(self)

    def _tell(self, changes: Mapping[str, int], again: bool = False) -> None:
        # A replica may not have it yet.
        again = again or database_of_pages() != self.using
        for watch in self._watches.values():
            watch.hear(changes, again=again)

    def _listen(self) -> None:
        self.using = router.db_for_write(Task)
        wanted = page_bell.way(self.using)
        stop: list[Callable[[], object]] = []

        def stop_listening() -> None:
            for end in stop:
                end()

        def set_hearing(hears: bool) -> None:
            # Ears may end long after they were told to, when others hear already.
            if self._stop_listening is stop_listening:
                self._set_way(wanted if hears else "look")

        if wanted == "redis":
            following = self.loop.create_task(
                follow(page_bell.GROUP, self._understand, hears=set_hearing, lost=_lost)
            )
            stop.append(following.cancel)
        elif wanted == "postgresql":
            ears = NotifyEars(
                self.using,
                lambda changes, again: self._in_loop(self._tell, changes, again),
                lambda hears: self._in_loop(set_hearing, hears),
            )
            stop.append(ears.close)
        stop.append(self.loop.create_task(look_out(self.using)).cancel)
        # What this very process changes is known without any of them.
        page_bell.hearers.append(self.hear)
        stop.append(lambda: _forget(self))
        self._stop_listening = stop_listening

    def _set_way(self, way: Way) -> None:
        if way != self.way:
            self.way = way
            # What was said before this moment was not heard; and the look takes another pace.
            self._tell({ANY: 1})
            for watch in self._watches.values():
                for socket in watch.sockets:
                    socket.news.set()

    def _understand(self, message: Any) -> None:
        if isinstance(message, Mapping) and message.get("using") == self.using:
            changes = message.get("changes")
            if isinstance(changes, Mapping):
                self._tell({str(queue): int(count) for queue, count in changes.items()})

    def _look_every(self) -> float:
        return LOOK_EVERY if self.way == "look" else SAFETY


def _key(socket: Socket) -> Hashable:
    ticket = socket.ticket
    return (
        ticket.page,
        json.dumps(ticket.arguments, sort_keys=True),
        ticket.query,
        ticket.zone,
        socket.viewer.likeness,
        socket.viewer.user.pk if _asks_the_host(ticket) else None,
    )


def _asks_the_host(ticket: Ticket) -> bool:
    """Whether records are looked for by the host's own pages, which may answer each person theirs.

    ``ModelAdmin.get_queryset`` depends on the request, and nobody can know how.
    """
    terms, _wrong = parse(QueryDict(ticket.query).get("q", ""))
    return ticket.page == "record" or any(term.key in ("", "record") for term in terms)


def _lost(error: Exception, pause: float) -> None:
    kind = type(error).__name__
    logger.warning(
        "Pages do not hear the channel layer (%s: %s) and look each second; again in %.1f s.",
        kind, error, pause,
    )  # fmt: skip


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]


def _forget(gone: Hub) -> None:
    while gone.hear in page_bell.hearers:
        page_bell.hearers.remove(gone.hear)
