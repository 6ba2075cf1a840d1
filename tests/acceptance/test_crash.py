"""Worker processes are killed; nothing is lost, and nothing is done that must not be done again."""

import os
import random
import signal
import statistics
import time
from datetime import timedelta

import psutil
import pytest

from tasks import enqueue, enqueue_many
from tasks.enqueueing import build
from tasks.models import Failure, Task, Worker
from tests.acceptance.fleet import (
    PATIENCE,
    Fleet,
    counts,
    journal_of,
    server_settled,
    until_done,
)
from tests.services.host import Host
from tests.services.waiting import wait_for
from tests.workload.journal import Journal, Run
from tests.workload.models import Effect
from workers.finish import FLUSH_DELAY
from workers.hands import ALONE
from workers.rescue import LOST_EXCEPTION

KILLS = 20
#: What a busy machine adds to the flush delay: threads and processes wait for their turn.
LATE = 0.25


def mixed_tasks(count: int) -> list[Task]:
    chance = random.Random(1)
    names = ("work.journal", "work.journal", "work.journal_atomic", "work.journal_async")
    lengths = [*[0.0] * 6, 0.02, 0.05, 0.1, 0.15, 0.2, 0.4, 1.0]
    return [
        build(chance.choice(names), {"sleep": chance.choice(lengths)}, max_attempts=50)
        for _ in range(count)
    ]


@pytest.mark.timeout(400)
def test_kills_lose_no_task_and_repeat_only_what_they_interrupted(postgres_host: Host) -> None:
    journal = journal_of(postgres_host)
    enqueue_many(mixed_tasks(2000))
    fleet = Fleet(postgres_host, "--processes", 4, "--threads", 2).ready(4)
    killed: dict[int, float] = {}

    for _ in range(KILLS):
        victim = random.choice(wait_for(fleet.runners, timeout=PATIENCE))
        killed[victim.pid] = time.monotonic()
        victim.kill()
        time.sleep(1)
    # Stopped before its runners die it starts no others, and none of them ends by itself.
    supervisor = psutil.Process(fleet.process.pid)
    supervisor.suspend()
    for process in [*fleet.runners(), supervisor]:
        killed[process.pid] = time.monotonic()
        process.kill()
    fleet.end()
    assert Task.objects.live().exists(), "the test is to kill workers that have work left"
    Fleet(postgres_host, "--processes", 2, "--threads", 16)
    until_done(timeout=120)

    assert counts() == {"completed": 2000}
    runs = journal.runs()
    assert len(runs) == 2000
    # Who was killed had not kept an outcome for longer than those who could write theirs.
    longest = FLUSH_DELAY + max(LATE, slowest_to_write(runs))
    for several in runs.values():
        for run in several[:-1]:
            assert run.pid in killed
            assert run.ended is None or killed[run.pid] - run.ended < longest
    done = list(Effect.objects.values_list("key", flat=True))
    atomic = Task.objects.named("work.journal_atomic").values_list("pk", flat=True)
    assert sorted(done) == sorted(f"atomic-{pk}" for pk in atomic)


def slowest_to_write(runs: dict[int, list[Run]]) -> float:
    """Seconds from the end of a handler until its outcome was written, the longest of all."""
    to_clock = time.time() - time.monotonic()
    written = dict(Task.objects.values_list("pk", "finished_at"))
    ended = {pk: several[-1].ended + to_clock for pk, several in runs.items()}
    return max(written[pk].timestamp() - ended[pk] for pk in runs)


@pytest.mark.timeout(240)
def test_a_killed_worker_is_replaced_and_its_task_starts_again_within_two_seconds(
    postgres_host: Host,
) -> None:
    journal = journal_of(postgres_host)
    fleet = Fleet(postgres_host, "--processes", 2).ready(2)
    task = enqueue("work.gate")
    [pid] = wait_for(lambda: journal.started(task), timeout=PATIENCE)

    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert started_again(journal, task) - killed < 2

    journal.open_gate(task)
    until_done()
    task.refresh_from_db()
    assert (task.state, task.attempts) == ("completed", 2)
    assert Worker.objects.filter(pid=pid, lost_at__isnull=False).count() == 1
    fleet.ready(2)


@pytest.mark.timeout(240)
def test_when_supervisor_and_worker_are_killed_another_fleet_starts_the_task_within_two_seconds(
    postgres_host: Host,
) -> None:
    journal = journal_of(postgres_host)
    doomed = Fleet(postgres_host).ready()
    task = enqueue("work.gate")
    [pid] = wait_for(lambda: journal.started(task), timeout=PATIENCE)
    waits = []
    for times in (1, 2, 3):
        other = Fleet(postgres_host).ready()
        wait_for(lambda: server_settled(postgres_host), timeout=PATIENCE, every=0.5)
        doomed.process.kill()
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        waits.append(started_again(journal, task, times=times) - killed)
        doomed, pid = other, journal.started(task)[times]

    # Most of it are two looks that the others leave time between: one of three may be disturbed.
    assert statistics.median(waits) < 2, waits
    journal.open_gate(task)
    until_done()
    assert Task.objects.get().attempts == 4


def started_again(journal: Journal, task: Task, *, times: int = 1) -> float:
    """When the task's handler was entered once more after so many times (time.monotonic())."""

    def again() -> list[float]:
        return [entry.at for entry in journal.entries("start") if entry.task == task.pk][times:]

    return wait_for(again, timeout=PATIENCE)[0]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("max_attempts", [5, 1])
def test_a_task_that_kills_its_process_takes_no_innocent_one_with_it(
    postgres_host: Host, max_attempts: int
) -> None:
    def innocent() -> list[Task]:
        data = {"sleep": 0.03}
        return [build("work.effect", data, max_attempts=max_attempts) for _ in range(25)]

    # They run in the order in which they are built.
    tasks = [*innocent(), build("work.die", max_attempts=max_attempts), *innocent()]
    enqueue_many(tasks)
    deadly = tasks[25]
    Fleet(postgres_host)
    until_done(timeout=180)

    deadly.refresh_from_db()
    assert (deadly.state, deadly.reason, deadly.attempts) == ("failed", "worker lost", max_attempts)
    death = Failure.objects.get(task=deadly)
    # Only who ran for so long that the next one was not kept waiting goes with it.
    others = Failure.objects.exclude(pk=death.pk)
    alone = timedelta(seconds=ALONE)
    assert all(one.started_at + alone <= death.started_at for one in others)
    assert set(others.values_list("exception", flat=True)) <= {LOST_EXCEPTION}
    assert counts() == {"completed": 50 - len(others), "failed": 1 + len(others)}
