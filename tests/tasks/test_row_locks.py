"""Databases with row locks of several strengths: who only refers to a row need not wait."""

import pytest
from django.db import transaction
from django.utils import timezone

from tasks import enqueue, on_save
from tasks.models import LogLine
from tasks.settle import settle_own
from tests.tasks.tools import WORKER, ending, start, threads
from tests.workload.models import Account, Posting

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_row_that_refers_to_a_record_is_added_while_the_record_is_saved() -> None:
    """The look before the save locks no more than the save itself does."""
    on_save(Account, fields=["balance"])(lambda account: None)
    account = Account.objects.create()
    account.balance = 5
    with threads(1) as run, transaction.atomic():
        account.save()
        assert run(lambda: Posting.objects.create(account=account)).result(10).pk


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
