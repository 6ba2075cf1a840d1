"""A web process that serves live pages looks for alerts, too: workers may all be gone."""

from __future__ import annotations

import asyncio
import logging
import random

from django.db import connections

from tasks import alerts

logger = logging.getLogger(__name__)

EVERY = 60.0


async def look_out(using: str) -> None:
    """Look about once a minute, until cancelled. The mail server is met in a thread."""
    while True:
        await asyncio.sleep(EVERY * random.uniform(0.5, 1.5))
        try:
            await asyncio.to_thread(_watch, using)
        except Exception:
            logger.exception("Looking for alerts failed; it is tried again.")


def _watch(using: str) -> None:
    try:
        alerts.watch(using)
    finally:
        connections[using].close()
