"""Takes the pictures of docs/images from a real run of the demo: python docs/screenshots.py

Needs Chromium and what `make install` installs. The demo runs on an SQLite file of its own.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).resolve().parent.parent
IMAGES = PROJECT / "docs" / "images"
PATIENCE = 120.0


@contextlib.contextmanager
def demo(folder: Path) -> Iterator[tuple[str, str]]:
    """A running demo: the address of its task pages and the password of ``operations``."""
    environment = os.environ | {
        "DATABASE_URL": f"sqlite:///{folder / 'shop.sqlite3'}",
        "TMPDIR": str(folder),
        "PYTHONUNBUFFERED": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "manage.py", "demo", "--port=8600"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield introduced(process)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)


def introduced(process: "subprocess.Popen[str]") -> tuple[str, str]:
    address = ""
    for line in process.stdout or ():
        if found := re.search(r"Open (\S+) and sign in", line):
            address = found[1]
        if found := re.match(r"  operations +(\S+)", line):
            return address, found[1]
    raise SystemExit("The demo ended before it said where it runs.")


def sign_in(page: Page, address: str, password: str) -> None:
    page.goto(address)
    page.fill("#id_username", "operations")
    page.fill("#id_password", password)
    page.click("input[type=submit]")


def withdraw(page: Page, address: str) -> None:
    """Cancel one of the letters that ask for a review."""
    page.goto(f"{address}?state=later")
    page.click("#result_list tbody tr >> nth=0 >> a >> nth=0")
    page.click("summary:has-text('Cancel')")
    page.fill("#reason-cancel", "The customer wants no more letters.")
    page.click("details[open] button:has-text('Cancel')")


def wait_for(page: Page, address: str, word: str, *, rows: int) -> None:
    """Wait until one of the newest ``rows`` tasks is in this state."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        page.goto(address)
        newest = page.locator("#result_list tbody tr").all_inner_texts()[:rows]
        if any(word in row for row in newest):
            return
        time.sleep(0.5)
    raise SystemExit(f"No task was {word} in time.")


def take(page: Page, address: str, password: str) -> None:
    sign_in(page, address, password)
    # By then the CRM was too busy for the second order; it is asked again for a minute.
    wait_for(page, address, "failed", rows=4)
    withdraw(page, address)
    page.goto(address)
    page.screenshot(path=IMAGES / "tasks.png")
    page.goto(f"{address}?state=failed")
    page.click("#result_list tbody tr >> nth=0 >> a >> nth=0")
    page.screenshot(path=IMAGES / "task.png", clip={"x": 0, "y": 0, "width": 1240, "height": 720})


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with (
        tempfile.TemporaryDirectory(prefix="aftersave-shots-") as folder,
        demo(Path(folder)) as (address, password),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1240, "height": 1080}, color_scheme="light")
        page.add_init_script("localStorage.setItem('django.admin.navSidebarIsOpen', 'false')")
        take(page, address, password)
        browser.close()
    for picture in sorted(IMAGES.glob("*.png")):
        print(f"{picture.relative_to(PROJECT)}: {picture.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
