"""Bulk actions over many tasks, done by real workers: killed, paused, cancelled, without rights."""

import os
import signal
import time

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models import Count
from django.http import HttpRequest

from tasks import bulk
from tasks.dashboard.viewer import Viewer
from tasks.models import BulkAction, Queue, State, Task, TaskEvent, Worker
from tests.acceptance.fleet import PATIENCE, Fleet, sure
from tests.services.host import Host
from tests.services.waiting import wait_for

MANY = 100_000
SOME = 60_000
#: For what is done to tens of thousands.
LONG = 240


def fill(count: int) -> None:
    """So many failed tasks, in a queue that is paused so that what is retried stays as it is."""
    Queue.objects.create(name="stock", paused_at="2026-01-01T00:00Z")
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO tasks_task (
                type, action, data, state, due, queue, priority, run_at, attempts, max_attempts,
                lease, created_at, finished_at, reason, fingerprint, has_dependents,
                idempotency_key, context)
            SELECT 'work', 'noop', '{}', 'failed', FALSE, 'stock', 0, now(), 5, 5, 5, now(), now(),
                'the shop is down', 'f', FALSE, gen_random_uuid(), '{}'
            FROM generate_series(1, %s)
            """,
            [count],
        )
        cursor.execute("ANALYZE tasks_task")


def person() -> User:
    user = User.objects.create_user("ann", is_staff=True)
    rights = ("view_task", "bulk_task", "retry_task")
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    return user


def begin(user: User) -> BulkAction:
    request = HttpRequest()
    request.user = user  # type: ignore[attr-defined]
    return bulk.start(Viewer(request, admin.site), "retry", "queue:stock", reason="it is back")


def looked_at(begun: BulkAction, number: int) -> None:
    """Wait until it has come so far."""

    def far_enough() -> bool:
        begun.refresh_from_db()
        return begun.looked_at >= number

    wait_for(lambda: sure(far_enough), timeout=LONG, every=0.02, what=f"{number} tasks")
    assert not begun.finished_at, "the test is to meet it on the way"


def ended(begun: BulkAction) -> BulkAction:
    def over() -> bool:
        begun.refresh_from_db()
        return begun.finished_at is not None

    wait_for(over, timeout=LONG, every=0.1, what="the end of the bulk action")
    return begun


def idle() -> None:
    """Wait until no worker runs anything."""
    running = Task.objects.running()
    wait_for(lambda: not running.exists(), timeout=PATIENCE, what="its worker to let go")


def kill_its_worker(begun: BulkAction) -> int:
    """SIGKILL for the process that runs it now; its id."""

    def running() -> Worker | None:
        task = Task.objects.get(pk=begun.task_id)
        return Worker.objects.alive().filter(pk=task.worker_id).first()

    def held() -> Worker | None:
        worker = running()
        if worker is None:
            return None
        # Between its turns nobody runs it: who is stopped cannot let go of it any more.
        os.kill(worker.pid, signal.SIGSTOP)
        if running() == worker:
            return worker
        os.kill(worker.pid, signal.SIGCONT)
        return None

    worker = wait_for(held, timeout=PATIENCE, every=0.005, what="the worker that runs it")
    os.kill(worker.pid, signal.SIGKILL)
    return int(worker.pid)


def touched_once(begun: BulkAction) -> int:
    """How many tasks have an event of it; each has one, and was retried."""
    events = TaskEvent.objects.filter(bulk=begun)
    several = events.values("task").annotate(times=Count("pk")).filter(times__gt=1)
    assert not several.exists()
    retried = Task.objects.filter(queue="stock", state=State.SCHEDULED)
    assert not retried.exclude(pk__in=events.values("task")).exists()
    assert retried.count() == events.count() == begun.done
    return begun.done


@pytest.mark.timeout(600)
def test_all_of_many_are_retried_once_though_its_worker_is_killed_three_times(
    postgres_host: Host,
) -> None:
    fill(MANY)
    Fleet(postgres_host, "--processes", 2, "--queues", "crm").ready(2)
    begun = begin(person())
    victims = []
    for part in (1, 2, 3):
        looked_at(begun, part * MANY // 5)
        victims.append(kill_its_worker(begun))
    ended(begun)

    assert len(set(victims)) == 3
    assert touched_once(begun) == MANY
    assert (begun.looked_at, begun.skipped, begun.stopped_because) == (MANY, {}, "")
    events = TaskEvent.objects.filter(bulk=begun).order_by()
    said = events.values_list("who", "action", "reason").distinct()
    assert list(said) == [("ann", "retry", "it is back")]
    own = wait_for(
        lambda: Task.objects.completed().filter(pk=begun.task_id).first(),
        timeout=PATIENCE,
        what="its task",
    )
    assert own.attempts == 4
    assert own.progress_value == {"done": MANY, "total": MANY}
    assert not own.failures.exists()


@pytest.mark.timeout(300)
def test_a_right_withdrawn_on_the_way_stops_it(postgres_host: Host) -> None:
    fill(SOME)
    user = person()
    Fleet(postgres_host).ready()
    begun = begin(user)
    looked_at(begun, 1)
    user.user_permissions.remove(Permission.objects.get(codename="bulk_task"))
    ended(begun)
    assert begun.stopped_because == "right"
    assert 0 < touched_once(begun) < SOME
    assert Task.objects.failed().count() == SOME - begun.done


@pytest.mark.timeout(300)
def test_it_can_be_paused_resumed_and_cancelled_on_the_way(postgres_host: Host) -> None:
    fill(SOME)
    Fleet(postgres_host, "--processes", 2).ready(2)
    begun = begin(person())
    looked_at(begun, 1)
    assert bulk.pause(begun, by="bob")
    begun.refresh_from_db()
    paused_at = begun.done
    idle()
    time.sleep(1)
    begun.refresh_from_db()
    assert begun.done == paused_at == touched_once(begun)

    assert bulk.resume(begun, by="bob")
    looked_at(begun, paused_at + 1)
    assert bulk.cancel(begun, by="bob")
    idle()
    ended(begun)
    assert paused_at < touched_once(begun) < SOME
    assert list(begun.story.values_list("action", flat=True)) == [
        "bulk_start",
        "bulk_pause",
        "bulk_resume",
        "bulk_cancel",
    ]
