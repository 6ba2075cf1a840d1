"""What answers on ``<admin>/tasks/live/<page>/``: accepts, decides, then sends until it may not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Hashable, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs

from django.core import signing

from tasks.dashboard.live.admission import (
    EXPIRED,
    NOT_ALLOWED,
    TOO_MANY,
    Refused,
    admit,
    is_own_origin,
)
from tasks.dashboard.live.hub import Hub, hub
from tasks.dashboard.live.socket import Socket
from tasks.dashboard.live.tickets import Ticket, read_ticket
from tasks.dashboard.live.watch import Watch
from tasks.dashboard.viewer import Viewer

logger = logging.getLogger(__name__)

#: The server says something this often, and asks anew who may look; in seconds.
BEAT = 5.0
CHECK = 5.0
_LONGEST_MESSAGE = 64 * 1024

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def live_consumer(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application for one WebSocket."""
    if (await receive())["type"] != "websocket.connect":
        return
    # Accepted first: a browser does not tell a page with which code it was turned away.
    await send({"type": "websocket.accept"})
    try:
        await _serve(scope, receive, send)
    except Refused as refused:
        await send({"type": "websocket.close", "code": refused.code})


async def _serve(scope: Scope, receive: Receive, send: Send) -> None:
    if not is_own_origin(scope):
        headers = dict(scope.get("headers", ()))
        logger.warning(
            "A page of %r may not follow what %r is asked for. If it is this site's own, the proxy "
            "must pass the Host header on, or CSRF_TRUSTED_ORIGINS must name the page's origin.",
            headers.get(b"origin"), headers.get(b"host"),
        )  # fmt: skip
        raise Refused(NOT_ALLOWED)
    ticket = _ticket(scope)
    here = hub()
    if not here.enter(ticket.session):
        raise Refused(TOO_MANY)
    try:
        viewer = await here.ask(_who(ticket, scope), partial(_admitted, ticket, scope))
        await _follow(_Following(here, ticket, viewer, scope, receive, send))
    finally:
        here.leave(ticket.session)


def _ticket(scope: Scope) -> Ticket:
    given = parse_qs(scope.get("query_string", b"").decode("latin1")).get("ticket", [""])[0]
    try:
        ticket = read_ticket(given)
    except signing.SignatureExpired:
        raise Refused(EXPIRED) from None
    except (signing.BadSignature, TypeError):
        raise Refused(NOT_ALLOWED) from None
    if scope.get("url_route", {}).get("kwargs", {}).get("page") != ticket.page:
        raise Refused(NOT_ALLOWED)
    return ticket


def _who(ticket: Ticket, scope: Scope) -> Hashable:
    """Equal for sockets that one browser opened for one page."""
    own = [pair for pair in scope.get("headers", ()) if not pair[0].startswith(b"sec-websocket")]
    client = scope.get("client") or ("",)
    return repr((ticket, own, client[0]))


def _admitted(ticket: Ticket, scope: Scope) -> Viewer:
    with ticket.surroundings():
        viewer = admit(ticket, scope)
        # Asked here, in the language and below the prefix that belong to it.
        _ = viewer.likeness
        return viewer


class _Following:
    """A socket with its watch, which changes when the viewer's rights do."""

    def __init__(
        self, here: Hub, ticket: Ticket, viewer: Viewer, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self.hub, self.ticket, self.scope, self.receive = here, ticket, scope, receive
        self.socket = Socket(
            ticket, viewer, lambda text: send({"type": "websocket.send", "text": text})
        )
        self.watch: Watch = here.watch(self.socket)

    async def listen(self) -> None:
        """Heed the reader's page until it is gone."""
        while True:
            event = await self.receive()
            if event["type"] == "websocket.disconnect":
                return
            said = _sense(event.get("text"))
            if said is not None:
                self.socket.tell(said, self.watch)

    async def send_news(self) -> None:
        """Send updates as they come."""
        while True:
            await self.socket.news.wait()
            self.socket.news.clear()
            await self.socket.send_news(self.watch, self.hub.way)

    async def beat(self) -> None:
        """Never be silent for long."""
        while True:
            await asyncio.sleep(BEAT)
            await self.socket.beat()

    async def check(self) -> None:
        """Ask again and again who looks, and whether they may. Raises Refused."""
        while True:
            await asyncio.sleep(CHECK)
            try:
                question = partial(_admitted, self.ticket, self.scope)
                viewer = await self.hub.ask(_who(self.ticket, self.scope), question)
            except Refused:
                raise
            # With the database away nothing is rendered either.
            except Exception:
                logger.warning("Nobody knows whether a socket may stay.", exc_info=True)
                continue
            changed = viewer.likeness != self.socket.viewer.likeness
            if changed:
                self.leave()
            self.socket.viewer = viewer
            if changed:
                self.socket.start_over()
                self.watch = self.hub.watch(self.socket)

    async def ended(self) -> None:
        """Raises Refused when the page has come to its end."""
        raise Refused(await self.socket.ended_with)

    def leave(self) -> None:
        """Look no more."""
        self.hub.unwatch(self.socket, self.watch)


async def _follow(following: _Following) -> None:
    """Until the reader goes (returns) or must go (raises Refused)."""
    work = (following.listen, following.send_news, following.beat, following.check, following.ended)
    running = [asyncio.ensure_future(one()) for one in work]
    try:
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for one in done:
            one.result()
    finally:
        following.leave()
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _sense(text: str | None) -> dict[str, Any] | None:
    if not text or len(text) > _LONGEST_MESSAGE:
        return None
    try:
        said = json.loads(text)
    # Lists in lists without end raise the second.
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None
