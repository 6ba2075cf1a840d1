"""Databases with row locks of several strengths: who only refers to a row need not wait."""

import threading

import pytest
from django.db import transaction
from django.utils import timezone

from tasks import enqueue, on_save
from tasks.models import LogLine
from tasks.settle import settle_own
from tests.tasks.tools import WORKER, ending, start, threads
from tests.workload.models import Account, Posting

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_who_add_lines_and_save_the_record_do_not_meet_a_deadlock() -> None:
    """An INSERT that refers to a record locks its key; comparing must not ask for more."""
    on_save(Account, fields=["balance"])(lambda account: None)
    account = Account.objects.create()
    meeting = threading.Barrier(2)

    def post(amount: int) -> None:
        mine = Account.objects.get(pk=account.pk)
        with transaction.atomic():
            Posting.objects.create(account=mine)
            meeting.wait(10)
            mine.balance = amount
            mine.save()

    with threads(2) as run:
        for thread in [run(post, amount) for amount in (1, 2)]:
            thread.result(20)
    assert Posting.objects.count() == 2


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
