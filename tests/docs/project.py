"""A project of a reader: files from the pages, commands as they stand there."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.docs.pages import PROJECT, Block
from tests.services.processes import free_port, port_answers, stop_server
from tests.services.waiting import wait_for

#: A machine has these or gets them elsewhere: what installs them is not run.
INSTALLING = ("python3 -m venv ", ". .venv/", "pip install ")
PATIENCE = 40.0


class Project:
    """A folder in which commands run like in a reader's terminal, with Aftersave installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.servers: dict[str, subprocess.Popen[bytes]] = {}
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "TZ")
        self.env = {name: os.environ[name] for name in kept if name in os.environ} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write(self, block: Block) -> None:
        """Write the file that the block's first line names."""
        assert block.file, f"{block} does not name its file"
        name, at_the_end = block.file
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        before = path.read_text() if at_the_end else ""
        path.write_text(before + block.text)

    def type(self, block: Block) -> None:
        """Run the commands of a console block and compare what they print."""
        for command, expected in commands(block):
            if command.startswith(INSTALLING):
                continue
            if command.endswith((" runworker", " runserver")):
                self.serve(command)
            else:
                self.check(block, command, expected)

    def serve(self, command: str) -> None:
        """Start (again) what runs in a terminal of its own."""
        if command in self.servers:
            stop_server(self.servers.pop(command))
        words = command.split()
        if words[-1] == "runserver":
            words += ["--noreload", str(self.port)]
        with (self.folder / f"{words[2]}.log").open("ab") as log:
            self.servers[command] = subprocess.Popen(
                words, cwd=self.folder, env=self.env, stdout=log, stderr=subprocess.STDOUT
            )
        if words[2] == "runserver":
            wait_for(lambda: port_answers(self.port), timeout=PATIENCE, what=command)

    def check(self, block: Block, command: str, expected: str) -> None:
        """Run the command until it prints what the page says; only what just looks runs twice."""
        deadline = time.monotonic() + PATIENCE
        while True:
            done = self.run(command)
            printed = done.stdout + done.stderr
            assert done.returncode == 0, f"{block}: {command}\n{printed}"
            if matches(expected, printed):
                return
            again = "Task.objects" in command and time.monotonic() < deadline
            assert again, f"{block}: {command}\nshould print\n{expected}\nand printed\n{printed}"
            time.sleep(0.3)

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        for server in self.servers.values():
            stop_server(server)


def commands(block: Block) -> list[tuple[str, str]]:
    """Each command of a console block with what the page says it prints."""
    found: list[tuple[str, str]] = []
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].rstrip("\n"), ""))
        elif line.startswith(("> ", ">\n")) and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line[2:].rstrip()}", "")
        else:
            command, expected = found[-1]
            found[-1] = (command, expected + line)
    return found


def matches(expected: str, printed: str) -> bool:
    """Whether a command printed what a page says; ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None
