"""Databases with row locks of several strengths: who only refers to a row need not wait."""

import time
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from tasks import bulk, enqueue, on_save, summing
from tasks.dashboard.editing import digest
from tasks.dashboard.versions import versions
from tasks.dashboard.viewer import Viewer
from tasks.incidents import try_one
from tasks.models import Figure, LogLine, Queue, State, Task
from tasks.settle import settle_own
from tests.tasks.admin_rows import EVERYTHING, button_of, failed, staff
from tests.tasks.failing import fail, incident
from tests.tasks.tools import WORKER, ending, start, threads, wait_until_blocked
from tests.workers.tools import row_locked
from tests.workload.models import Account, Posting
from workers.testing import run_tasks

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_row_that_refers_to_a_record_is_added_while_the_record_is_saved() -> None:
    """The look before the save locks no more than the save itself does."""
    on_save(Account, fields=["balance"])(lambda account: None)
    account = Account.objects.create()
    account.balance = 5
    with threads(1) as run, transaction.atomic():
        account.save()
        assert run(lambda: Posting.objects.create(account=account)).result(10).pk


def test_a_bulk_action_can_be_paused_while_somebody_holds_one_of_its_tasks() -> None:
    Queue.objects.create(name="default", paused_at=timezone.now())
    user = User.objects.create_superuser("ann")
    request = HttpRequest()
    request.user = user
    tasks = [failed() for _ in range(3)]
    begun = bulk.start(Viewer(request, admin.site), "retry", "state:failed")
    with row_locked(tasks[1]):
        began = time.monotonic()
        run_tasks(queues=["aftersave"])
        bulk.pause(begun, by=user)
        assert time.monotonic() - began < 10
        begun.refresh_from_db()
        assert (begun.done, begun.paused_at is None) == (0, False)
    bulk.resume(begun, by=user)
    Task.objects.filter(queue="aftersave").update(due=True)
    run_tasks(queues=["aftersave"])
    begun.refresh_from_db()
    assert (begun.done, begun.skipped) == (3, {})


def test_changing_data_and_retrying_locks_prerequisites_before_the_task() -> None:
    client = staff(*EVERYTHING)
    first = failed()
    task = enqueue("shop.do", {"n": 1}, after=[first])
    task.cancel()
    form = {"data": '{"n": 2}', "version": versions([task])[task.pk], "reason": "typo"}
    form |= {"step": "save_and_retry", "previewed": digest(form["data"], form["version"])}
    with threads(1) as run, transaction.atomic():
        lock_row(first)
        pressed = run(client.post, button_of(task, "change_data"), form)
        wait_until_blocked()
        lock_row(task)
    assert pressed.result(10).status_code == 302
    task.refresh_from_db()
    assert (task.data, task.state) == ({"n": 2}, State.WAITING)


def test_trying_one_of_an_incident_locks_the_older_ones_first() -> None:
    older, newer = fail(), fail(enqueue("shop.do", unique_key="k"))
    enqueue("shop.do", unique_key="k")
    with threads(1) as run, transaction.atomic():
        lock_row(older)
        tried = run(partial(try_one, incident(), by="ann"))
        wait_until_blocked()
        lock_row(newer)
    assert tried.result(10) == older


def lock_row(task: Task) -> None:
    Task.objects.select_for_update(nowait=True).get(pk=task.pk)


def test_who_sums_up_waits_for_another_who_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the one that looked first and wrote last would store less than there is."""

    def report(process: int) -> None:
        one = summing.Tallied()
        one.counts.completed = 1
        rows = summing.with_sums([(("default", "email", "send"), one)])
        summing.write("default", start=noon, span=60, process=process, rows=rows)

    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    then = noon + timedelta(minutes=11)
    looked, go_on = Event(), Event()
    write = summing.write

    def slow(*arguments: Any, **more: Any) -> None:
        if not looked.is_set():
            looked.set()
            assert go_on.wait(10)
        write(*arguments, **more)

    report(1)
    monkeypatch.setattr(summing, "write", slow)
    with threads(2) as run:
        first = run(summing.sum_up, "default", then)
        assert looked.wait(10)
        write_late = run(report, 2)
        write_late.result(10)
        second = run(summing.sum_up, "default", then)
        wait_until_blocked()
        go_on.set()
        assert first.result(10) + second.result(10)
    assert Figure.objects.get(span=600, queue="").completed == 2


def test_a_log_line_is_written_while_the_tasks_outcome_is_not_committed() -> None:
    task = start(enqueue("math.add"))
    with threads(1) as run, transaction.atomic():
        assert settle_own("default", WORKER, ending(task))
        line = run(
            lambda: LogLine.objects.create(
                task=task, attempt=1, level=20, text="x", at=timezone.now()
            )
        )
        assert line.result(10).pk


def test_a_dependent_is_enqueued_while_a_handler_logs_in_an_open_transaction() -> None:
    task = start(enqueue("math.add"))
    with threads(1) as run, transaction.atomic():
        LogLine.objects.create(task=task, attempt=1, level=20, text="x", at=timezone.now())
        assert run(lambda: enqueue("math.sum", after=[task])).result(10).pk
