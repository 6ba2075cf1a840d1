"""A worker that was taken for dead changes nothing when it goes on."""

import os
import signal

import pytest

from tasks import enqueue
from tasks.models import Task, Worker
from tests.acceptance.fleet import PATIENCE, Fleet, journal_of, until_done
from tests.services.host import Host
from tests.services.waiting import wait_for
from tests.workload.journal import Journal
from tests.workload.models import Effect


def next_start(journal: Journal, task: Task, *, after: int) -> int:
    """The process that enters the task's handler once it has been entered so often."""
    return wait_for(lambda: journal.started(task)[after:], timeout=PATIENCE)[0]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["work.gate", "work.gate_atomic"])
def test_the_late_result_of_a_stopped_worker_changes_nothing_and_it_goes_on_under_a_new_id(
    postgres_host: Host, name: str
) -> None:
    journal = journal_of(postgres_host)
    postgres_host.configure(HEARTBEAT_LIMIT=3)
    first = Fleet(postgres_host).ready()
    task = enqueue(name)
    stopped = next_start(journal, task, after=0)
    [old_id] = first.registered()
    second = Fleet(postgres_host).ready()

    os.kill(stopped, signal.SIGSTOP)
    rescuer = next_start(journal, task, after=1)
    assert rescuer in second.pids()
    journal.open_gate(task, pid=stopped)
    os.kill(stopped, signal.SIGCONT)

    wait_for(lambda: first.registered() not in ([], [old_id]), timeout=PATIENCE, what="a new id")
    wait_for(lambda: journal.entries("end"), timeout=PATIENCE, what="the late end")
    wait_for(lambda: "was given to another worker" in first.output, timeout=PATIENCE)
    task.refresh_from_db()
    assert (task.state, task.result, Effect.objects.count()) == ("running", None, 0)

    journal.open_gate(task, pid=rescuer)
    until_done()
    task.refresh_from_db()
    assert (task.state, task.attempts, task.result) == ("completed", 2, {"pid": rescuer})
    assert list(Effect.objects.values_list("pid", flat=True)) == [rescuer] * (name != "work.gate")
    assert Worker.objects.get(pk=old_id).lost_at
    assert second.terminate() == 0
    next_task = enqueue("work.effect")
    until_done()
    assert Effect.objects.get(key=str(next_task.pk)).pid == stopped
    assert first.pids() == [stopped]
