"""As much of a WebSocket client as reading JSON from a server of ours takes."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any
from urllib.parse import urlsplit

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class WebSocket:
    """Opened by ``await WebSocket.open(url, headers)``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, url: str, headers: dict[str, str]) -> WebSocket:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        lines = [
            f"GET {parts.path}?{parts.query} HTTP/1.1",
            f"Host: {parts.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in answer.splitlines()[0]:
            raise RuntimeError(f"no socket at {url}: {answer.decode()[:200]}")
        return cls(reader, writer)

    async def hear(self) -> dict[str, Any]:
        """The next message. RuntimeError when the server closes."""
        while True:
            first, second = await self._reader.readexactly(2)
            length = second & 127
            if length > 125:
                size = await self._reader.readexactly(2 if length == 126 else 8)
                length = int.from_bytes(size, "big")
            payload = await self._reader.readexactly(length)
            kind = first & 15
            if kind == TEXT:
                message: dict[str, Any] = json.loads(payload)
                return message
            elif kind == PING:
                self._send(PONG, payload)
            elif kind == CLOSE:
                raise RuntimeError(f"closed with {int.from_bytes(payload[:2], 'big')}")

    def say(self, **words: Any) -> None:
        self._send(TEXT, json.dumps(words).encode())

    def _send(self, kind: int, payload: bytes) -> None:
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        head = bytes([128 | kind])
        size = len(payload)
        head += bytes([128 | size]) if size < 126 else bytes([254]) + size.to_bytes(2, "big")
        self._writer.write(head + mask + masked)

    def close(self) -> None:
        self._writer.close()
