from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import enqueue, figures, summing
from tasks.figures import Counts
from tasks.histogram import Histogram
from tasks.models import Figure, Task
from tests.tasks.tools import start as begin

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ONE, OTHER = 1001, 1002


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def report(
    minute: float,
    *names: tuple[str, str, str],
    process: int = ONE,
    wait: float = 0.1,
    **counts: int,
) -> None:
    """A process says what it did in that minute: the same of each (queue, type, action)."""
    rows = []
    for name in names:
        one = summing.Tallied()
        for column, number in counts.items():
            setattr(one.counts, column, number)
        for _ in range(one.counts.attempts):
            one.wait.add(wait)
            one.run.add(1.0)
        rows.append((name, one))
    start = figures.floor(at(minute), 60)
    summing.write("default", start=start, span=60, process=process, rows=summing.with_sums(rows))


MAIL = ("default", "email", "send")
CRM = ("crm", "crm", "sync")


def hour(**options: Any) -> list[Any]:
    return figures.series("default", since=NOON, until=at(60), **options)


def test_a_minute_nobody_reported_is_a_gap_and_an_idle_one_is_zero() -> None:
    report(0, MAIL, completed=3)
    report(2)
    points = hour()
    assert len(points) == 60
    assert points[0].counts == Counts(completed=3)
    assert points[1] is None
    assert points[2].counts == Counts()
    assert points[2].wait.p50 is None
    assert points[2].start == at(2)


def test_a_queue_that_did_nothing_while_others_worked_is_zero_and_no_gap() -> None:
    report(0, MAIL, completed=3)
    assert hour(queues=["crm"])[0].counts == Counts()
    assert hour(names=["crm.sync"])[0].counts == Counts()
    assert hour(names=["crm.sync"])[1] is None


def test_processes_queues_and_names_add_up() -> None:
    report(0, MAIL, CRM, completed=2, failed=1)
    report(0, MAIL, process=OTHER, completed=5, retried=1)
    both = Counts(completed=9, failed=2, retried=1)
    assert hour()[0].counts == both
    assert hour(queues=["default", "crm"])[0].counts == both
    assert hour(queues=["crm"])[0].counts == Counts(completed=2, failed=1)
    assert hour(names=["email.send"])[0].counts == Counts(completed=7, failed=1, retried=1)
    assert hour(names=["email.send"], queues=["crm"])[0].counts == Counts()
    assert figures.totals("default", since=NOON, until=at(60)) == both
    assert figures.by_queue("default", since=NOON, until=at(60)) == {
        "default": Counts(completed=7, failed=1, retried=1),
        "crm": Counts(completed=2, failed=1),
    }
    assert figures.by_name("default", since=NOON, until=at(60)) == {
        "email.send": Counts(completed=7, failed=1, retried=1),
        "crm.sync": Counts(completed=2, failed=1),
    }


def test_names_are_told_apart_though_their_parts_are_equal() -> None:
    report(0, ("q", "a", "x"), ("q", "b", "y"), completed=1)
    report(0, ("q", "a", "y"), process=OTHER, completed=10)
    assert hour(names=["a.x", "b.y"])[0].counts.completed == 2


def test_quantiles_are_those_of_all_processes_together() -> None:
    report(0, MAIL, completed=90, wait=0.1)
    report(0, MAIL, process=OTHER, completed=10, wait=60.0)
    wait: Histogram = hour()[0].wait
    assert wait.p50 == pytest.approx(0.1, rel=0.1)
    assert wait.p95 == pytest.approx(60, rel=0.1)
    assert hour()[0].run.p95 == pytest.approx(1, rel=0.1)


def test_counts_tell_what_finished_and_which_share_failed() -> None:
    counts = Counts(completed=6, failed=1, retried=1, cancelled=2)
    assert (counts.finished, counts.attempts, counts.failing_share) == (9, 8, 0.25)
    assert Counts().failing_share is None


def test_a_longer_step_sums_minutes() -> None:
    report(0, MAIL, completed=1)
    report(9, MAIL, completed=2)
    report(10, MAIL, completed=4)
    points = hour(step=600)
    assert [point and point.counts.completed for point in points] == [3, 4, None, None, None, None]


def test_a_step_that_is_no_multiple_of_a_minute_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 60"):
        hour(step=90)


@pytest.mark.parametrize("minutes", [25, 65, 125, 300])
def test_summing_up_changes_no_answer(minutes: int) -> None:
    for minute in range(0, minutes, 5):
        report(minute, MAIL, CRM, completed=1 + minute, wait=0.01 * (1 + minute))
        report(minute, MAIL, process=OTHER, failed=2)

    def answers() -> list[Any]:
        until = at(360)
        asked = {"since": NOON, "until": until}
        return [
            [
                point and (point.counts, point.wait.stored(), point.run.stored())
                for point in figures.series("default", **asked, step=step, **narrowed)
            ]
            for step in (600, 1800, 3600)
            for narrowed in ({}, {"queues": ["crm"]}, {"names": ["email.send"]})
        ] + [figures.totals("default", **asked), figures.by_queue("default", **asked)]

    before = answers()
    assert summing.sum_up("default", at(minutes)) > 0
    assert answers() == before
    assert Figure.objects.filter(span=600, process=0).exists()


def test_summing_up_twice_adds_nothing_twice() -> None:
    report(0, MAIL, completed=3)
    report(12, MAIL, completed=3)
    summing.sum_up("default", at(30))
    assert summing.sum_up("default", at(30)) == 0
    assert hour(step=600)[0].counts.completed == 3
    assert Figure.objects.filter(span=600, queue="").count() == 2


def test_who_is_late_is_added_when_the_next_span_is_summed() -> None:
    report(0, MAIL, completed=3)
    summing.sum_up("default", at(11))
    report(9, MAIL, process=OTHER, completed=4)
    report(15, MAIL, completed=1)
    summing.sum_up("default", at(21))
    assert [point.counts.completed for point in hour(step=600)[:2]] == [7, 1]


def test_spans_in_which_nobody_was_there_are_passed_over() -> None:
    report(0, MAIL, completed=1)
    report(60 * 24 * 30, MAIL, completed=1)
    summing.sum_up("default", at(60 * 24 * 31))
    assert Figure.objects.filter(span=600, queue="").count() == 2
    assert Figure.objects.filter(span=3600, queue="").count() == 2


def test_minutes_go_after_two_days_and_hours_when_the_settings_say_so(settings: Any) -> None:
    settings.AFTERSAVE = {"KEEP_FIGURES": timedelta(days=30)}
    report(0, MAIL, completed=1)
    report(60 * 24, MAIL, completed=1)
    summing.sum_up("default", at(60 * 25))
    after = timedelta(days=2, minutes=30)
    assert summing.prune_figures("default", NOON + after) == 3
    assert Figure.objects.filter(span=60).earliest("start").start == at(60 * 24)
    assert figures.totals("default", since=NOON, until=at(60 * 40)).completed == 2
    summing.prune_figures("default", NOON + timedelta(days=40))
    assert Figure.objects.filter(span=3600).count() == 0


def test_minutes_that_nobody_summed_up_stay() -> None:
    report(0, MAIL, completed=1)
    assert summing.prune_figures("default", NOON + timedelta(days=9)) == 0


def test_nothing_is_pruned_when_all_is_kept(settings: Any) -> None:
    settings.AFTERSAVE = {"KEEP_FIGURES": None}
    report(0, MAIL, completed=1)
    summing.sum_up("default", at(70))
    summing.prune_figures("default", NOON + timedelta(days=9000))
    assert figures.totals("default", since=NOON, until=at(60 * 24 * 9)).completed == 1


def test_each_question_is_one_statement() -> None:
    report(0, MAIL, completed=1)
    summing.sum_up("default", at(70))
    questions = [
        lambda: hour(),
        lambda: hour(step=600, queues=["default"]),
        lambda: hour(step=3600, names=["email.send"]),
        lambda: figures.totals("default", since=NOON),
        lambda: figures.by_queue("default", since=NOON),
        lambda: figures.by_name("default", since=NOON),
        lambda: figures.oldest_due("default"),
    ]
    for question in questions:
        with CaptureQueriesContext(connection) as seen:
            question()
        assert len(seen) == 1


def test_the_oldest_due_task_is_found_whatever_its_priority() -> None:
    def due(queue: str, minutes: int, priority: int = 0) -> None:
        task = enqueue("shop.do", queue=queue, priority=priority)
        Task.objects.filter(pk=task.pk).update(run_at=at(-minutes))

    due("a", 5, priority=9)
    due("a", 30, priority=-3)
    due("a", 10)
    due("b", 1)
    begin(enqueue("shop.do", queue="c"))
    enqueue("shop.do", queue="d", delay=3600)
    assert figures.oldest_due("default") == {"a": at(-30), "b": at(-1)}


def test_a_minute_that_is_written_long_after_its_span_was_summed_up_is_added() -> None:
    now = timezone.now()
    first = (figures.floor(now, 3600) - NOON).total_seconds() / 60 - 180
    for minute in (0, 60, 70, 120):
        report(first + minute, MAIL, completed=1)
    summing.sum_up("default", now)
    for minute in (5, 35):  # others had reported then, and nobody had
        report(first + minute, MAIL, process=OTHER, completed=10)
        summing.sum_again("default", at(first + minute))
        summing.sum_again("default", at(first + minute))
    asked = {"since": at(first), "until": now}
    tens = figures.series("default", **asked, step=600)
    assert [point and point.counts.completed for point in tens[:4]] == [11, None, None, 10]
    hours = figures.series("default", **asked, step=3600)
    assert [point and point.counts.completed for point in hours[:3]] == [21, 2, 1]


def test_a_minute_so_late_that_its_neighbours_may_be_pruned_takes_nothing_away() -> None:
    first = (figures.floor(timezone.now(), 3600) - NOON).total_seconds() / 60 - 60 * 48
    for minute in (0, 1, 11, 60, 71):
        report(first + minute, MAIL, completed=1)
    summing.sum_up("default", timezone.now())
    Figure.objects.filter(span=60, start__lt=at(first + 2)).delete()
    report(first + 2, MAIL, process=OTHER, completed=1)
    summing.sum_again("default", at(first + 2))
    asked = {"since": at(first), "until": at(first + 10)}
    assert figures.series("default", **asked, step=600)[0].counts.completed == 2


def test_pruning_keeps_up_with_many_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summing, "_DELETE_AT_ONCE", 2)
    report(0, MAIL, CRM, completed=1)
    report(12, MAIL, completed=1)
    summing.sum_up("default", at(22))
    assert summing.prune_figures("default", at(12) + timedelta(days=2)) == 5


def test_whether_anybody_was_there_is_one_question() -> None:
    report(3)
    assert figures.was_reported("default", since=NOON, until=at(4))
    assert not figures.was_reported("default", since=NOON, until=at(3))
    assert not figures.was_reported("default", since=at(4), until=at(60))
