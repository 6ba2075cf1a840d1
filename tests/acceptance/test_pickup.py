"""Work starts when it may: after the commit, at its time, after a failure."""

import statistics
import time

import pytest
from django.db import transaction

from tasks import enqueue, enqueue_many
from tasks.enqueueing import build
from tasks.models import Failure
from tests.acceptance.fleet import PATIENCE, Fleet, ids, journal_of, until_done
from tests.services.host import Host
from tests.services.waiting import wait_for
from workers.timekeeper import LOOK_EVERY


@pytest.mark.timeout(180)
def test_an_idle_worker_starts_what_was_committed_without_waiting_for_its_next_look(
    postgres_host: Host,
) -> None:
    journal = journal_of(postgres_host)
    Fleet(postgres_host).ready()
    enqueue("work.noop")
    until_done()
    waits = []
    for _ in range(15):
        with transaction.atomic():
            task = enqueue("work.journal")
            assert journal.started(task) == []
        committed = time.monotonic()
        wait_for(lambda task=task: journal.started(task), timeout=PATIENCE, every=0.005)
        waits.append(journal.entries("start")[-1].at - committed)

    assert statistics.median(waits) < LOOK_EVERY / 4, waits


@pytest.mark.timeout(180)
def test_a_delayed_task_starts_when_its_time_has_come(postgres_host: Host) -> None:
    journal = journal_of(postgres_host)
    Fleet(postgres_host).ready()
    now = time.monotonic()
    delays = (0.3, 0.9, 1.7, 3.0)
    given = enqueue_many([build("work.journal", delay=delay) for delay in delays])
    until_done()

    started = {entry.task: entry.at - now for entry in journal.entries("start")}
    late = [started[task.pk] - delay for task, delay in zip(given, delays, strict=True)]
    assert min(late) >= 0
    assert statistics.median(late) < 1.5, late


@pytest.mark.timeout(180)
def test_what_failed_is_tried_again_as_often_as_allowed(postgres_host: Host) -> None:
    Fleet(postgres_host)
    broken = [build("work.raise", max_attempts=3) for _ in range(10)]
    decided = [
        build("work.decide", {"decision": word}) for word in ("retry", "fail", "cancel", "go on")
    ]
    enqueue_many([*broken, *decided])
    until_done()

    columns = ("state", "attempts", "reason")
    ended = set(ids(broken).values_list(*columns))
    assert ended == {("failed", 3, "ValueError: broken")}
    assert Failure.objects.filter(task__in=broken).count() == 30
    assert list(ids(decided).order_by("id").values_list(*columns)) == [
        ("completed", 2, ""),
        ("failed", 1, "refused"),
        ("cancelled", 1, "withdrawn"),
        ("completed", 1, ""),
    ]
