"""A running site for the browser tests of live pages, and how to wait for what they show."""

import contextlib
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User

from tasks.models import Task
from tests.services.host import Host, Started
from tests.services.processes import free_port, port_answers
from tests.services.waiting import wait_for

#: Notes every state a row is seen in, from the first paint on.
WATCH_ROWS = """
window.seen = {};
const note = () => {
  for (const row of document.querySelectorAll(".af-row[id]")) {
    const classes = row.querySelector(".af-state")?.classList ?? [];
    const state = [...classes].find((one) => one !== "af-state")?.slice("af-".length);
    const states = (window.seen[row.id] ??= []);
    if (state && states.at(-1) !== state) states.push(state);
  }
};
const start = () => {
  note();
  const everything = { subtree: true, childList: true, characterData: true, attributes: true };
  new MutationObserver(note).observe(document.body, everything);
};
document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", start) : start();
"""


class Site:
    """The host's web server: ``web`` is its address, ``server`` its process."""

    def __init__(self, host: Host, *, asgi: bool = True) -> None:
        self.host = host
        self.port = free_port()
        self.web = f"http://127.0.0.1:{self.port}"
        self.asgi = asgi
        self.start()

    def start(self) -> None:
        """Start the server at the same address as before."""
        if self.asgi:
            command = [sys.executable, "-m", "daphne", "-p", str(self.port)]
            self.server = self.host.start([*command, "config.asgi:application"])
        else:
            options = ("--noreload", "--insecure", "--skip-checks")
            self.server = self.host.popen("runserver", f"127.0.0.1:{self.port}", *options)
        wait_for(self._serves, timeout=40, what="the web server")

    def _serves(self) -> bool:
        assert self.server.poll() is None, self.server.output()
        return port_answers(self.port)

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.server.send_signal(how)
        self.server.wait(20)

    def worker(self, *options: str) -> Started:
        return self.host.popen("runworker", "--processes", "1", *options)

    def sign_in(self, page: Any, name: str = "care") -> User:
        """Give the browser a session of a superuser."""
        user: User = User.objects.filter(username=name).first() or User.objects.create_superuser(
            name
        )
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        cookie = {"name": settings.SESSION_COOKIE_NAME, "value": session.session_key}
        page.context.add_cookies([{**cookie, "url": self.web}])
        return user

    def open(self, page: Any, path: str = "") -> Any:
        """The page below the list of tasks, live."""
        page.goto(f"{self.web}/admin/tasks/task/{path}")
        if self.asgi:
            self.wait_until_live(page)
        return page

    def wait_until_live(self, page: Any) -> None:
        try:
            until(page, lambda: is_live(page), "a live page")
        except AssertionError as error:
            error.add_note(f"The page says {says(page)!r}, the server: {self.server.output()}")
            raise


def is_live(page: Any) -> bool:
    return bool(page.locator("#af-root.af-live-on").count())


def says(page: Any) -> str:
    """What the page says of how live it is."""
    return str(page.locator("#af-live-text").inner_text())


def until(page: Any, condition: Callable[[], Any], what: str = "", timeout: float = 30) -> Any:
    """The first true value; the browser goes on meanwhile."""

    def asked() -> Any:
        page.wait_for_timeout(20)
        # The page may be on its way to another.
        with contextlib.suppress(Exception):
            return condition()

    return wait_for(asked, timeout=timeout, what=what)


def row(task: Task) -> str:
    return f"#af-task-{task.pk}"


def state_of(page: Any, task: Task) -> str:
    classes = page.locator(f"{row(task)} .af-state").get_attribute("class").split()
    return str(next(one for one in classes if one != "af-state")).removeprefix("af-")


def seen(page: Any, task: Task) -> list[str]:
    """Every state the row has been in before the reader's eyes."""
    return list(page.evaluate("id => window.seen[id] || []", row(task)[1:]))
