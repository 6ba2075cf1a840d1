"""Sockets of the pages for tests that are not asynchronous themselves."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote

from channels.testing import WebsocketCommunicator
from django.test import Client

from tasks.dashboard.live.routing import live
from tests.tasks.admin_rows import LIST, text_of

HOST = "testserver"


class Loop:
    """An event loop in a thread of its own, as a web server has one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any], timeout: float = 10) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def close(self) -> None:
        self.run(self._end_the_rest())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end_the_rest(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


class Reader:
    """An open page: what it was sent since it was opened."""

    def __init__(self, loop: Loop, address: str, headers: dict[str, str]) -> None:
        self.loop = loop
        self.messages: list[dict[str, Any]] = []
        self.closed_with: int | None = None
        coded = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.socket = WebsocketCommunicator(live, address, headers=coded)
        accepted, code = loop.run(self.socket.connect(timeout=5))
        assert accepted, code

    def hear(self, timeout: float = 5) -> dict[str, Any] | None:
        """The next message, None after ``timeout`` seconds or when the server closes."""
        try:
            event = self.loop.run(self.socket.receive_output(timeout), timeout + 5)
        except TimeoutError:
            # What waits for an answer in vain ends the application under it.
            self.closed_with = self.closed_with or -1
            return None
        if event["type"] == "websocket.close":
            self.closed_with = event["code"]
            return None
        message = json.loads(event["text"])
        self.messages.append(message)
        return message

    def hear_until(
        self, wanted: Callable[[dict[str, Any]], Any], timeout: float = 20
    ) -> dict[str, Any]:
        """The first message that is wanted."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            message = self.hear(until - time.monotonic())
            assert message is not None, (self.closed_with, self.messages)
            if wanted(message):
                return message
        raise AssertionError(self.messages)

    def whole(self) -> dict[str, Any]:
        """The first message of all."""
        return self.hear_until(lambda message: message.get("whole"))

    def is_silent_for(self, seconds: float) -> bool:
        """Whether nothing comes in so long."""
        return bool(self.loop.run(self.socket.receive_nothing(seconds, 0.02), seconds + 5))

    def end(self, timeout: float = 8) -> int | None:
        """With which code the server closes."""
        until = time.monotonic() + timeout
        while self.closed_with is None and time.monotonic() < until:
            self.hear(until - time.monotonic())
        return self.closed_with

    def say(self, **words: Any) -> None:
        self.loop.run(self.socket.send_json_to(words))

    def leave(self) -> None:
        if self.closed_with is None:
            self.loop.run(self.socket.disconnect(timeout=8))


#: Opens a socket as the browser of a client would: ``(client, address="", *, origin=...)``.
Open = Callable[..., Reader]


def ticket_on(client: Client, address: str = LIST) -> str:
    """The ticket that a page carries."""
    found = re.search(r'data-ticket="([^"]+)"', text_of(client.get(address)))
    assert found, address
    return found[1]


def socket_on(client: Client, address: str = LIST) -> str:
    """The address of a page's socket, with the ticket."""
    html = text_of(client.get(address))
    found = re.search(r'data-ticket="([^"]+)" data-socket="([^"]+)"', html)
    assert found, address
    return f"{found[2]}?ticket={quote(found[1])}"


def headers_of(client: Client, origin: str | None = f"http://{HOST}") -> dict[str, str]:
    """What the browser behind ``client`` sends along."""
    cookies = "; ".join(f"{name}={cookie.value}" for name, cookie in client.cookies.items())
    headers = {"host": HOST, "cookie": cookies}
    return {**headers, "origin": origin} if origin is not None else headers


def shown_parts(message: dict[str, Any]) -> set[str]:
    """The ids of all elements that a message brings."""
    return {one["id"] for key in ("parts", "rows") for one in message.get(key, ())}
