"""Who looks at a live page: a Chromium and plain sockets, each noting when a row changed."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
import time
from typing import Any, Self
from urllib.parse import quote
from urllib.request import Request, urlopen

from benchmarks.websocket import WebSocket

#: How long a row may take before it counts as lost, in seconds.
PATIENCE = 10.0
_ROW = re.compile(r'id="af-task-(\d+)"')
_STATE = re.compile(r'class="af-state af-(\w+)"')
_NOTE = """
window.moments = {};
const note = () => {
  for (const row of document.querySelectorAll("[id^=af-task-]")) {
    const state = [...row.querySelector(".af-state").classList].at(-1).slice(3);
    const key = `${row.id.slice(8)} ${state}`;
    window.moments[key] ??= (performance.timeOrigin + performance.now()) / 1000;
  }
};
note();
const everything = {subtree: true, childList: true, attributes: true};
new MutationObserver(note).observe(document.body, everything);
"""


class Readers:
    """`sockets` plain readers and one Chromium on `web + path`, signed in by `cookie`.

    ``seen(task_id, state)`` gives the moments (time.time()) at which each saw it.
    """

    def __init__(self, web: str, path: str, cookie: str, *, sockets: int) -> None:
        self.web, self.path, self.cookie, self.count = web, path, cookie, sockets
        self._moments: list[dict[tuple[int, str], float]] = [{} for _ in range(sockets)]
        self._whole = threading.Semaphore(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        from playwright.sync_api import sync_playwright

        self._thread.start()
        self._reading = [
            asyncio.run_coroutine_threadsafe(self._read(index), self._loop)
            for index in range(self.count)
        ]
        for _ in range(self.count):
            if not self._whole.acquire(timeout=30):
                failed = [one.exception() for one in self._reading if one.done()]
                raise RuntimeError(f"a socket got no first message: {failed}")
        self._playwright = sync_playwright().start()
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        self._browser = self._playwright.chromium.launch(executable_path=path, args=flags)
        self.page: Any = self._browser.new_page()
        self.page.context.add_cookies(
            [{"name": "sessionid", "value": self.cookie, "url": self.web}]
        )
        self.page.goto(self.web + self.path)
        self.page.wait_for_selector("#af-root.af-live-on")
        self.page.evaluate(_NOTE)
        return self

    def __exit__(self, *_: object) -> None:
        from django.db import connections

        # While Playwright's loop runs in this thread, Django keeps other connections for it.
        connections.close_all()
        self._browser.close()
        self._playwright.stop()
        for one in self._reading:
            one.cancel()
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.5, self._loop.stop)
        self._thread.join()

    async def _read(self, index: int) -> None:
        html = await asyncio.to_thread(self._html)
        found = re.search(r'data-ticket="([^"]+)" data-socket="([^"]+)"', html)
        assert found, html[:500]
        address = f"ws{self.web[4:]}{found[2]}?ticket={quote(found[1])}"
        headers = {"Cookie": f"sessionid={self.cookie}", "Origin": self.web}
        socket = await WebSocket.open(address, headers)
        moments = self._moments[index]
        while True:
            message = await socket.hear()
            now = time.time()
            for one in (*message.get("parts", ()), *message.get("rows", ())):
                for row in one["html"].split("<tr ")[1:]:
                    task, state = _ROW.search(row), _STATE.search(row)
                    if task and state:
                        moments.setdefault((int(task[1]), state[1]), now)
            if message.get("whole"):
                socket.say(shown=message["here"])
                self._whole.release()

    def _html(self) -> str:
        request = Request(self.web + self.path, headers={"Cookie": f"sessionid={self.cookie}"})
        with urlopen(request, timeout=30) as answer:
            return str(answer.read().decode())

    def forget(self) -> None:
        """What was seen until now does not count."""
        self.page.evaluate("window.moments = {}")
        for moments in self._moments:
            moments.clear()

    def seen(self, task_id: int, state: str) -> list[float]:
        """When each reader saw it; waits for the last one. RuntimeError if one never does."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            browser = self.page.evaluate("key => window.moments[key]", f"{task_id} {state}")
            sockets = [moments.get((task_id, state)) for moments in self._moments]
            found = [moment for moment in (browser, *sockets) if moment is not None]
            if len(found) == self.count + 1:
                return found
            time.sleep(0.02)
        raise RuntimeError(f"only {len(found)} readers saw task {task_id} {state}")
