"""The demo as a newcomer starts it: nothing is prepared, and nothing is left behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from tests.acceptance.fleet import words
from tests.services.processes import free_port, kill_all
from tests.services.waiting import wait_for

PROJECT = Path(__file__).resolve().parents[2]
PREPARED = {"DATABASE_URL", "OTHER_DATABASE_URL", "DJANGO_SETTINGS_MODULE", "AFTERSAVE_SETTINGS"}


class Demo:
    """``manage.py demo`` with a temporary directory of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.output = directory / f"output-{len(list(directory.glob('output-*')))}"
        environment = {name: value for name, value in os.environ.items() if name not in PREPARED}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "demo", *arguments],
                cwd=PROJECT,
                env={**environment, "TMPDIR": str(directory)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def text(self) -> str:
        return self.output.read_text()

    def end(self, *, timeout: float) -> int:
        """The exit code, and the output in pytest's report."""
        try:
            return self.process.wait(timeout)
        finally:
            print(self.text)

    def address(self) -> str:
        found = wait_for(self._address, timeout=150, what="the demo's address")
        return str(found)

    def _address(self) -> str:
        assert self.process.poll() is None, self.text
        text = self.text
        found = re.search(r"(http://127.0.0.1:\d+)/admin/tasks/task/overview/ ", text)
        # With its last line the people to sign in as are there, too.
        return found[1] if found and "Ctrl-C ends it." in text else ""


@pytest.fixture
def directory(short_path: Path) -> Iterator[Path]:
    # PostgreSQL, started by root, runs as a user who must get through.
    short_path.chmod(0o711)
    yield short_path
    left = processes_in(short_path)
    kill_all(left)
    assert left == [], "the demo left processes behind"


def processes_in(directory: Path) -> list[psutil.Process]:
    """Processes whose environment or command says that they belong to this directory's demo."""
    found = []
    for process in psutil.process_iter():
        try:
            about = [*process.cmdline(), process.environ().get("TMPDIR", "")]
        except psutil.Error:
            continue
        if any(str(directory) in part for part in about):
            found.append(process)
    return found


@pytest.mark.timeout(200)
def test_the_demo_checks_itself_in_less_than_two_minutes(directory: Path) -> None:
    demo = Demo(directory, "--check")

    assert demo.end(timeout=120) == 0
    assert "Everything is as it must be" in demo.text
    rows = {row.split()[0]: row.split()[1:] for row in demo.text.splitlines() if "." in row[:30]}
    assert rows["inventory.reserve"][:5] == ["20", "20", "0", "0", "20"]
    assert rows["email.order_confirmation"][:5] == ["20", "20", "0", "0", "20"]
    assert rows["crm.sync"][:5] == ["20", "20", "4", "0", "28"]
    assert rows["review.ask"][:5] == ["20", "0", "0", "20", "0"]
    assert not list(directory.glob("aftersave-check-*"))


@pytest.mark.timeout(480)
def test_the_demo_runs_until_it_is_ended_and_goes_on_with_its_data(directory: Path) -> None:
    first = Demo(directory, f"--port={free_port()}")
    address = first.address()
    with urlopen(address, timeout=60) as shop:
        assert "Place order" in shop.read().decode()
    second = Demo(directory)
    assert second.end(timeout=60) == 1
    assert f"A demo runs already at {address}" in second.text

    first.process.send_signal(signal.SIGINT)
    assert first.end(timeout=90) == 0
    assert processes_in(directory) == []

    again = Demo(directory, f"--port={free_port()}")
    again.address()
    assert people_in(again.text) == people_in(first.text) != []
    again.process.send_signal(signal.SIGTERM)
    assert again.end(timeout=90) == 0


@pytest.mark.timeout(300)
def test_a_process_that_dies_ends_the_demo_and_is_named(directory: Path) -> None:
    demo = Demo(directory, f"--port={free_port()}")
    demo.address()
    [daphne] = [p for p in processes_in(directory) if "daphne" in words(p)]
    daphne.kill()

    assert demo.end(timeout=90) == 1
    assert "daphne ended with code -9" in demo.text


@pytest.mark.timeout(300)
def test_a_demo_that_is_killed_takes_its_processes_with_it(directory: Path) -> None:
    demo = Demo(directory, f"--port={free_port()}")
    demo.address()
    demo.process.kill()

    wait_for(lambda: processes_in(directory) == [], timeout=90, what="its processes to end")


def people_in(text: str) -> list[str]:
    return re.findall(r"^  (?:viewer|care|operations) .*$", text, re.MULTILINE)
