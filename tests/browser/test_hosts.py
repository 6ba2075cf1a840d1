"""The pages in other hosts: themes, a path prefix, no ASGI, two admin sites, strict policies."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.contrib.auth.models import Group, User

from tasks import enqueue
from tasks.models import Task, TaskEvent
from tests.browser.live_site import is_live, until
from tests.browser.walk import (
    hire,
    paint,
    sign_in,
    violated,
    wait_until_settled,
    width_beyond,
)
from tests.services.host import PROJECT, Host
from tests.services.processes import ServiceMissing, free_port, needed, port_answers
from tests.services.waiting import wait_for
from tests.tasks.admin_rows import failed
from tests.wheel.run import newest_python

THEMES = ("unfold", "jazzmin", "grappelli")
SMALLEST_TEXT = """() => Math.min(...[...document.querySelectorAll("#af-root *")]
    .filter((one) => one.checkVisibility() && [...one.childNodes].some(
        (node) => node.nodeType === Node.TEXT_NODE && node.data.trim()))
    .map((one) => parseFloat(getComputedStyle(one).fontSize)))"""


def served(host: Host, settings: str, *arguments: str, python: str = sys.executable) -> str:
    """Start daphne with these settings; its address."""
    port = free_port()
    host.env["DJANGO_SETTINGS_MODULE"] = f"tests.hosts.{settings}"
    daphne = [python, "-m", "daphne", "-b", "127.0.0.1", "-p", str(port), *arguments]
    return answering(host, [*daphne, "config.asgi:application"], port)


def answering(host: Host, command: list[str], port: int) -> str:
    started = host.start(command)

    def serves() -> bool:
        assert started.poll() is None, started.output()
        return port_answers(port)

    wait_for(serves, timeout=60, what="the web server")
    return f"http://127.0.0.1:{port}"


def is_due(task: Task) -> bool:
    task.refresh_from_db()
    return task.state == "scheduled"


def retry_by_click(page: Any, web: str, task: Task) -> list[str]:
    """Press Retry on the task's page once; which POSTs the browser sent."""
    posts: list[str] = []
    page.on("request", lambda request: request.method == "POST" and posts.append(request.url))
    page.goto(f"{web}/admin/tasks/task/{task.pk}/change/")
    page.wait_for_timeout(500)  # a script that would send it twice has bound itself by then
    with page.expect_navigation(wait_until="load"):
        page.locator("#af-root").get_by_role("button", name="Retry", exact=True).first.click()
    page.wait_for_timeout(500)
    return posts


@pytest.mark.timeout(300)
@pytest.mark.parametrize("theme", THEMES)
def test_a_theme_leaves_every_page_readable_and_its_buttons_working(
    page: Any, sqlite_host: Host, theme: str
) -> None:
    hire()
    walk = paint()
    task = failed("work.raise")
    web = served(sqlite_host, theme)
    sign_in(page, web)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name, address in walk.items():
            assert page.goto(web + address).status == 200, name
            assert page.locator("#af-root h1").inner_text()
            assert width_beyond(page) <= 0, name
            wait_until_settled(page)
            assert violated(page, "color-contrast") == [], (name, scheme)
            assert page.evaluate(SMALLEST_TEXT) >= 11, name
    assert len(retry_by_click(page, web, task)) == 1
    assert is_due(task)
    assert TaskEvent.objects.filter(task=task).count() == 1
    assert page.locator("#af-root .af-messages .af-success").count() == 1


@pytest.mark.parametrize("theme", ["unfold", "jazzmin"])
def test_a_theme_for_phones_stays_one_with_our_pages(
    chromium: Any, sqlite_host: Host, theme: str
) -> None:
    hire()
    walk = paint()
    web = served(sqlite_host, theme)
    viewport = {"width": 390, "height": 844}
    page = chromium.new_context(viewport=viewport, is_mobile=True).new_page()
    sign_in(page, web)
    for name, address in walk.items():
        page.goto(web + address)
        assert width_beyond(page) <= 0, name
    page.context.close()


def test_below_a_path_prefix_links_buttons_and_sockets_work(page: Any, sqlite_host: Host) -> None:
    hire()
    walk = paint()
    task = failed("work.raise")
    web = served(sqlite_host, "prefix", "--root-path=/shop") + "/shop"
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    sign_in(page, web)
    for name, address in walk.items():
        assert page.goto(web + address).status == 200, name
        outside = page.locator(
            "#af-root :is([href^='/'], [formaction^='/'], [action^='/'])"
            ":not([href^='/shop/'], [formaction^='/shop/'], [action^='/shop/'])"
        )
        assert outside.count() == 0, (name, outside.first.evaluate("one => one.outerHTML"))
    assert len(retry_by_click(page, web, task)) == 1
    assert is_due(task)
    assert page.url.startswith(f"{web}/admin/tasks/task/{task.pk}/")

    page.goto(f"{web}/admin/tasks/task/")
    new = enqueue("work.noop")
    row = page.locator(f"#af-task-{new.pk}")
    wait_for(lambda: row.count() == 1, timeout=15, every=0.2, what="the new row, by itself")
    assert (row.locator("a").first.get_attribute("href") or "").startswith("/shop/admin/")
    assert sockets
    assert all("/shop/admin/tasks/live/" in url for url in sockets)


def test_without_asgi_the_pages_ask_again_and_say_what_would_be_better(
    page: Any, sqlite_host: Host
) -> None:
    hire()
    task = failed("work.raise")
    port = free_port()
    sqlite_host.env["DJANGO_SETTINGS_MODULE"] = "tests.hosts.wsgi"
    serve = ["runserver", "--noreload", "--insecure", f"127.0.0.1:{port}"]
    web = answering(sqlite_host, sqlite_host.command(tuple(serve)), port)
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    sign_in(page, web)
    assert len(retry_by_click(page, web, task)) == 1
    assert is_due(task)

    page.goto(f"{web}/admin/tasks/task/")
    new = enqueue("work.noop")
    row = page.locator(f"#af-task-{new.pk}")
    wait_for(lambda: row.count() == 1, timeout=30, every=0.2, what="the new row, by itself")
    assert "ASGI" in page.locator("#af-root .af-live").inner_html()
    assert sockets == []


def test_two_admin_sites_keep_their_readers_apart(page: Any, sqlite_host: Host) -> None:
    hire()
    walk = paint()
    User.objects.get().groups.add(Group.objects.create(name="partners"))
    web = served(sqlite_host, "two_sites_settings")
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    sign_in(page, web, "/partners/")
    for name, address in walk.items():
        assert page.goto(web + address.replace("/admin/", "/partners/")).status == 200, name
        outside = page.locator("#af-root [href^='/admin/'], #af-root [formaction^='/admin/']")
        assert outside.count() == 0, (name, outside.first.evaluate("one => one.outerHTML"))
    page.goto(f"{web}/partners/tasks/task/")
    new = enqueue("work.noop")
    row = page.locator(f"#af-task-{new.pk}")
    wait_for(lambda: row.count() == 1, timeout=15, every=0.2, what="the new row, by itself")
    assert sockets
    assert all("/partners/tasks/live/" in url for url in sockets)


def test_static_files_may_have_hashed_names_alone_and_a_server_of_their_own(
    page: Any, sqlite_host: Host, short_path: Path
) -> None:
    hire()
    paint()
    root, port = short_path / "static", free_port()
    sqlite_host.env |= {
        "DJANGO_SETTINGS_MODULE": "tests.hosts.static_elsewhere",
        "TEST_STATIC_ROOT": str(root),
        "TEST_STATIC_URL": f"http://127.0.0.1:{port}/",
    }
    sqlite_host.manage("collectstatic", "--noinput", "--verbosity=0")
    for name, hashed in json.loads((root / "staticfiles.json").read_text())["paths"].items():
        if name != hashed:
            (root / name).unlink()
    files = [sys.executable, "-m", "http.server", str(port), "--bind=127.0.0.1", "-d", str(root)]
    answering(sqlite_host, files, port)
    web = served(sqlite_host, "static_elsewhere")
    sign_in(page, web)
    page.goto(f"{web}/admin/tasks/task/overview/")
    until(page, lambda: is_live(page), "a live page")
    until(page, lambda: page.locator("#af-root.af-scripted canvas").count() == 3, "the charts")


@pytest.fixture(scope="session")
def newest_django() -> Iterator[str]:
    """A Python with the newest Django, in an environment of its own."""
    with needed():
        python = newest_python()
        if python is None:
            raise ServiceMissing("no Python 3.12 or newer is here: install one with pyenv")
    with TemporaryDirectory(prefix="aftersave-django-") as directory:
        subprocess.run([python, "-m", "venv", "--without-pip", directory], check=True)
        own = Path(directory) / "bin" / "python"
        lines = (PROJECT / "constraints.txt").read_text().splitlines(keepends=True)
        constraints = Path(directory) / "constraints.txt"
        constraints.write_text("".join(one for one in lines if not one.startswith("Django==")))
        wanted = ["django==6.1.*", "channels", "daphne", "django-environ"]
        pip = [sys.executable, "-m", "pip", "--python", str(own), "install", "--quiet"]
        # What is not compiled now is when it is first imported, and most of it never is.
        options = ["--disable-pip-version-check", "--no-compile", "-c", str(constraints)]
        subprocess.run([*pip, *options, *wanted], check=True, env=os.environ)
        yield str(own)


@pytest.mark.timeout(300)
def test_djangos_own_policy_with_nonces_is_kept(
    page: Any, sqlite_host: Host, newest_django: str
) -> None:
    hire()
    walk = paint()
    task = failed("work.raise")
    web = served(sqlite_host, "csp_nonce", python=newest_django)
    refused = violations(page)
    sign_in(page, web)
    for name, address in walk.items():
        answer = page.goto(web + address)
        assert answer.status == 200, name
        assert "nonce-" in answer.headers["content-security-policy"]
        wait_until_settled(page)
        assert refused == [], name
    assert len(retry_by_click(page, web, task)) == 1
    assert is_due(task)

    page.goto(f"{web}/admin/tasks/task/")
    new = enqueue("work.noop")
    row = page.locator(f"#af-task-{new.pk}")
    wait_for(lambda: row.count() == 1, timeout=15, every=0.2, what="the new row, by itself")
    assert refused == []


def violations(page: Any) -> list[str]:
    """Fills with what a Content-Security-Policy forbids on any page opened from now on."""
    refused: list[str] = []
    page.context.expose_function("tellOfViolation", lambda told: refused.append(told))
    page.context.add_init_script(
        "document.addEventListener('securitypolicyviolation', (event) => window.tellOfViolation("
        "`${event.violatedDirective}: ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`"
        "))"
    )
    return refused
