"""Hearing on PostgreSQL what changed, through a direct connection of the web process."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from tasks.bell import connection_to_listen
from tasks.conf import aftersave_settings
from tasks.page_bell import CHANNEL

logger = logging.getLogger(__name__)

#: In seconds: how soon a closed ear ends, how often a silent connection is tried, and how long it
#: takes until a lost one is opened anew.
PATIENCE = 1.0
TRY_EVERY = 20
PAUSE = 1.0


class NotifyEars:
    """A thread that listens for ``using`` until it is closed, whatever becomes of the server.

    ``hear`` is given the changes and whether to look again a moment later, ``hears`` whether
    anything is heard; both are called in that thread.
    """

    def __init__(
        self,
        using: str,
        hear: Callable[[Mapping[str, int], bool], None],
        hears: Callable[[bool], None],
    ) -> None:
        self._using = using
        self._hear = hear
        self._hears = hears
        self._closed = threading.Event()
        threading.Thread(target=self._run, name="live ears", daemon=True).start()

    def close(self) -> None:
        """End within a second."""
        self._closed.set()

    def _run(self) -> None:
        complained = False
        while not self._closed.is_set():
            try:
                self._listen()
            # Whatever becomes of a connection: the pages look each second meanwhile.
            except Exception as error:
                self._hears(False)
                if not complained:
                    complained = True
                    logger.warning("Pages do not hear PostgreSQL and look each second: %s", error)
                self._closed.wait(PAUSE)

    def _listen(self) -> None:
        alias = aftersave_settings.session_alias(self._using) or self._using
        wrapper = connection_to_listen(alias, "pages")
        try:
            wrapper.ensure_connection()
            raw: Any = wrapper.connection
            raw.autocommit = True
            raw.execute(f"LISTEN {CHANNEL}")
            self._hears(True)
            quiet = 0
            while not self._closed.is_set():
                quiet += 1
                for notice in raw.notifies(timeout=PATIENCE):
                    quiet = 0
                    self._understand(notice.payload)
                    if self._closed.is_set():
                        break
                if quiet >= TRY_EVERY:
                    quiet = 0
                    raw.execute("SELECT 1")
        finally:
            wrapper.close()

    def _understand(self, payload: str) -> None:
        try:
            said = json.loads(payload)
            changes = {str(queue): int(count) for queue, count in said["changes"].items()}
            again = bool(said["again"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return
        self._hear(changes, again)
