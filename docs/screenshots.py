"""Takes the pictures of docs/images: every page, light, dark and on a phone. `make screenshots`

Needs Chromium and what `make install` installs. The shop on the pictures is made up, the same each
time; it stands in an SQLite file of its own, and no worker runs.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
IMAGES = PROJECT / "docs" / "images"
STAFF = ("ann", "a-password-for-pictures")
PATIENCE = 60.0
LARGEST = 200_000
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1240, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1240, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "is_mobile": True},
}

#: Pages of which more is to be seen than a window shows.
HEIGHTS = {"overview": 1270}


def set_up(folder: Path) -> None:
    """Make this process, and those it starts, a host project of its own."""
    sys.path.insert(0, str(PROJECT))
    os.environ |= {
        "DATABASE_URL": f"sqlite:///{folder / 'shop.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DJANGO_ALLOW_ASYNC_UNSAFE": "1",  # Playwright's loop runs in this thread
        # Nobody keeps the workers of the scene alive while the pictures are taken.
        "AFTERSAVE_SETTINGS": '{"HEARTBEAT_LIMIT": 86400, "RELEASE": "2026.11.3"}',
        "LOG_LEVEL": "WARNING",
    }
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, run_syncdb=True)


def paint() -> dict[str, str]:
    """Fill the database; the address of each page by its picture's name."""
    from django.contrib.auth.models import User
    from django.urls import reverse

    from tests.tasks.dashboard import scene

    ann = User.objects.create_superuser(STAFF[0], password=STAFF[1])
    painted = scene.paint()
    order, letter = an_order_with_a_story(ann)
    bulk = a_bulk_action(ann)

    def page(name: str, query: str = "", **arguments: Any) -> str:
        return reverse(f"admin:tasks_task_{name}", kwargs=arguments or None) + query

    incident = {"incident_id": painted.incidents[0].pk}
    return {
        "overview": page("overview"),
        "tasks": page("changelist", "?q=state:failed"),
        "task": page("change", task_id=letter.pk),
        "record": page("record", app="orders", model="order", key=str(order.pk)),
        "search": page("search", "?q=dana"),
        "incidents": page("incidents"),
        "incident": page("incident", **incident),
        "activity": page("activity"),
        "bulk": page("bulk", bulk_id=bulk.pk),
        "bulk-preview": page("bulk_new", "?action=retry&q=state:failed+queue:crm"),
        "change-data": page("edit_data", task_id=letter.pk),
    }


def an_order_with_a_story(ann: Any) -> tuple[Any, Any]:
    """Order 1081, whose confirmation did not arrive, and that task."""
    from django.utils import timezone

    from orders.models import Order
    from tasks.models import Failure, LogLine, State, Task
    from tests.tasks.tools import finish, start

    order = Order.objects.create(
        number="1081", customer="Dana Weiss", email="dana@example.com", total="128.50"
    )
    reserve, review, letter = order.tasks.order_by("pk")
    if review.type == "email":
        review, letter = letter, review
    finish(reserve, State.COMPLETED, result='{"reserved": 2}')
    letter.refresh_from_db()
    now = timezone.now()
    lines = ("Connecting to mail.example.com.", "The server answered 452: mailbox full.")
    for attempt, ago in ((1, 40), (2, 12)):
        at = now - timedelta(minutes=ago)
        Failure.objects.create(
            task=letter,
            attempt=attempt,
            worker_id=4711,
            started_at=at - timedelta(seconds=2),
            at=at,
            exception="smtplib.SMTPRecipientsRefused",
            message="452 4.2.2 mailbox full",
            traceback=TRACEBACK,
            fingerprint="1".zfill(32),
        )
        for text in lines:
            LogLine.objects.create(task=letter, attempt=attempt, at=at, level=20, text=text)
    minutes = [now - timedelta(minutes=count) for count in (42, 41, 12, 5)]
    ordered, reserved, failed, cancelled = minutes
    review.cancel(reason="The customer wants no letters.", by=ann)
    review.events.update(at=cancelled)
    start(letter)
    rows = Task.objects.filter(pk__in=(reserve.pk, letter.pk, review.pk))
    rows.update(created_at=ordered, run_at=ordered)
    rows.filter(pk=review.pk).update(finished_at=cancelled)
    rows.filter(pk=reserve.pk).update(
        started_at=reserved - timedelta(seconds=0.3), finished_at=reserved
    )
    rows.filter(pk=letter.pk).update(
        state=State.FAILED,
        attempts=2,
        max_attempts=2,
        worker_id=None,
        run_at=failed,
        started_at=failed - timedelta(seconds=2),
        finished_at=failed,
        reason="SMTPRecipientsRefused: 452 4.2.2 mailbox full",
        fingerprint="1".zfill(32),
    )
    return order, letter


TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/orders/handlers.py", line 61, in send_confirmation
    mail.send()
  File "/usr/lib/python3.11/smtplib.py", line 899, in sendmail
    raise SMTPRecipientsRefused(senderrs)
smtplib.SMTPRecipientsRefused: {'dana@example.com': (452, b'4.2.2 mailbox full')}
"""


def a_bulk_action(ann: Any) -> Any:
    """A retry of what the outage left, half done."""
    from django.contrib import admin
    from django.test import RequestFactory
    from django.utils import timezone

    from tasks import bulk
    from tasks.dashboard.viewer import Viewer
    from tests.tasks.tools import start

    request = RequestFactory().get("/")
    request.user = ann
    begun = bulk.start(
        Viewer(request, admin.site),
        "retry",
        "state:failed queue:crm",
        reason="The CRM is back.",
        per_second=5,
    )
    begun.refresh_from_db()
    start(begun.task, worker=4711)
    type(begun).objects.filter(pk=begun.pk).update(
        looked_at=52, done=48, skipped={"completed": 4}, rate=5, progressed_at=timezone.now()
    )
    return begun


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Daphne on a free port; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with (folder / "daphne.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "daphne",
                "-b",
                "127.0.0.1",
                "-p",
                port,
                "config.asgi:application",
            ],
            cwd=PROJECT,
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def sign_in(page: Any, web: str) -> None:
    page.goto(f"{web}/admin/login/?next=/admin/tasks/task/")
    page.fill("#id_username", STAFF[0])
    page.fill("#id_password", STAFF[1])
    page.locator("#id_password").press("Enter")
    page.wait_for_selector("#af-root")


def take(browser: Any, web: str, pages: dict[str, str]) -> None:
    for look, options in LOOKS.items():
        context = browser.new_context(**options, locale="en-GB", timezone_id="UTC")
        context.add_init_script("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
        page = context.new_page()
        sign_in(page, web)
        for name, address in pages.items():
            size = options["viewport"]
            page.set_viewport_size(size if look == "phone" else size | tall(name))
            page.goto(web + address)
            if name == "change-data":
                correct(page)
            page.wait_for_timeout(1500)  # live by then, charts drawn
            page.screenshot(path=IMAGES / f"{name}-{look}.png")
        context.close()


def tall(name: str) -> dict[str, int]:
    return {"height": HEIGHTS[name]} if name in HEIGHTS else {}


def correct(page: Any) -> None:
    """Type another address into the editor, and look at the difference."""
    page.fill("#af-data", '{\n  "to": "dana.weiss@example.com"\n}')
    page.click("button[value=preview]")
    page.wait_for_selector("#af-reason")
    page.fill("#af-reason", "She gave us her new address by telephone.")


def main() -> None:
    from playwright.sync_api import sync_playwright

    IMAGES.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="aftersave-shots-") as name:
        set_up(Path(name))
        pages = paint()
        with served(Path(name)) as web, sync_playwright() as playwright:
            flags = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            browser = playwright.chromium.launch(executable_path=program, args=flags)
            take(browser, web, pages)
            browser.close()
    sizes = {one.name: one.stat().st_size for one in sorted(IMAGES.glob("*.png"))}
    print(f"{len(sizes)} pictures, {sum(sizes.values()) // 1024} kB")
    too_large = [name for name, size in sizes.items() if size >= LARGEST]
    if too_large:
        raise SystemExit(f"larger than {LARGEST // 1000} kB: {too_large}")


if __name__ == "__main__":
    main()
