"""Many bounded questions in one statement."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks import enqueue
from tasks.dashboard import probes
from tasks.models import Task

pytestmark = pytest.mark.django_db


def test_each_question_is_counted_up_to_the_limit_in_one_statement():
    for index in range(6):
        enqueue("shop.do", queue="crm" if index < 4 else "mail")
    due = Task.objects.due()
    questions = [due.filter(queue=queue) for queue in ("mail", "none", "crm")]
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert probes.counts(questions, most=2) == [2, 0, 3]
    assert len(queries) == 1


def test_a_question_that_nothing_can_answer_is_nought():
    enqueue("shop.do")
    assert probes.counts([Task.objects.none(), Task.objects.due()]) == [0, 1]
    assert probes.ids([Task.objects.none()[:3], Task.objects.due()[:0]]) == [[], []]
    assert probes.counts([]) == []


def test_ids_come_in_the_order_of_their_question():
    low, high = enqueue("shop.do", priority=1), enqueue("shop.do", priority=2)
    by_priority = Task.objects.order_by("-priority")
    newest = Task.objects.order_by("-id")
    assert probes.ids([by_priority[:2], newest[:1]]) == [[high.pk, low.pk], [high.pk]]


def test_more_questions_than_a_statement_takes_are_asked_in_several():
    enqueue("shop.do", queue="q700")
    questions = [Task.objects.due().filter(queue=f"q{number}") for number in range(701)]
    assert probes.counts(questions) == [0] * 700 + [1]
