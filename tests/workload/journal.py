"""A file in which handlers note what they do: it outlives processes and databases."""

import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VARIABLE = "JOURNAL"


@cache
def _file(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(what, task):
    """Append what happens to the task here and now; no other process's line is torn."""
    at = time.monotonic()  # on Linux one clock for all processes
    line = [what, task.pk, task.name, os.getpid(), at, str(task.data.get("note", ""))]
    os.write(_file(os.environ[VARIABLE]), f"{json.dumps(line)}\n".encode())


def wait_at_gate(task):
    """Wait until the test opens the gate of this task, for all or for this process."""
    base = os.environ[VARIABLE]
    gates = (f"{base}-{task.pk}", f"{base}-{task.pk}-{os.getpid()}")
    while not any(os.path.exists(gate) for gate in gates):
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Entry:
    what: str
    task: int
    name: str
    pid: int
    at: float
    note: str


@dataclass(slots=True)
class Run:
    """One execution of a handler; `ended` is None when its process did not get so far."""

    task: int
    pid: int
    started: float
    ended: float | None = None


class Journal:
    """The test's side: reads what was noted, opens gates."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def entries(self, what: str = "") -> list[Entry]:
        # What follows the last line's end is a line that is being written.
        lines = self.path.read_text().rpartition("\n")[0].splitlines()
        found = [Entry(*json.loads(line)) for line in lines]
        return [entry for entry in found if not what or entry.what == what]

    def runs(self) -> dict[int, list[Run]]:
        """For each task its executions, in the order of their beginnings."""
        runs: dict[int, list[Run]] = defaultdict(list)
        for entry in self.entries():
            if entry.what == "start":
                runs[entry.task].append(Run(entry.task, entry.pid, entry.at))
            elif entry.what == "end":
                same = [r for r in runs[entry.task] if r.pid == entry.pid and r.ended is None]
                same[-1].ended = entry.at
        return runs

    def started(self, task, pid: int | None = None) -> list[int]:
        """The processes that have entered the handler of this task."""
        entries = (entry for entry in self.entries("start") if entry.task == task.pk)
        return [entry.pid for entry in entries if pid in (None, entry.pid)]

    def open_gate(self, task, pid: int | None = None) -> None:
        suffix = "" if pid is None else f"-{pid}"
        Path(f"{self.path}-{task.pk}{suffix}").touch()
