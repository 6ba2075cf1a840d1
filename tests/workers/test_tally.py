"""What a process counts, and how it is written down; the questions are tests/tasks/test_figures."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.utils import OperationalError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import Cancel, Fail, Snooze, enqueue, figures
from tasks.figures import Counts
from tasks.models import Figure, State, Task
from tasks.settle import settle
from tasks.summing import sum_up, with_sums, write
from tests.workers.tools import ME, OTHER, attempt, claimed
from workers import tally as tallying
from workers.attempt import Attempt, Clock, GivenBack, Written, as_datetime
from workers.execute import execute
from workers.tally import Tally

pytestmark = pytest.mark.django_db


class SetClock(Clock):
    """A clock that the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = 1_800_000_059.9999  # the minute is over at once

    def time(self) -> float:
        return self.moment


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def tally(clock: SetClock) -> Tally:
    made = Tally(clock)
    made.serve_as(ME)
    return made


def run(
    tally: Tally, function: Callable[[Task], Any] = lambda task: None, **options: Any
) -> Attempt:
    made = attempt(claimed(enqueue("work.noop", **options)), function)
    tally.add(made, execute(made))
    return made


def counts() -> dict[str, Counts]:
    return figures.by_name("default", since=timezone.now() - timedelta(days=9))


def rows() -> Any:
    return Figure.objects.filter(queue="")


def now_is(clock: SetClock) -> None:
    clock.moment = time.time()


def raising(error: BaseException) -> Callable[[Task], Any]:
    def function(task: Task) -> None:
        raise error

    return function


def test_each_outcome_is_counted_as_what_it_is(tally: Tally, clock: SetClock) -> None:
    now_is(clock)
    run(tally)
    run(tally)
    run(tally, raising(Fail("no")))
    run(tally, raising(ValueError("again")))
    run(tally, raising(ValueError("the last time")), max_attempts=1)
    run(tally, raising(Cancel("not wanted")))
    tally.write("default")
    assert counts() == {"work.noop": Counts(completed=2, failed=2, retried=1, cancelled=1)}


def test_what_did_not_count_as_an_attempt_is_not_counted(tally: Tally, clock: SetClock) -> None:
    now_is(clock)
    run(tally, raising(Snooze(after=5)))
    made = attempt(claimed(enqueue("work.noop")))
    tally.add(made, GivenBack(task_id=1, lease=1, queue="default"))
    tally.add(made, Written(task_id=1, lease=1, lost=True))
    tally.write("default")
    assert counts() == {}


def test_an_atomic_handler_counts_like_any_other(tally: Tally, clock: SetClock) -> None:
    now_is(clock)
    made = attempt(claimed(enqueue("work.noop")), atomic=True)
    tally.add(made, execute(made))
    tally.write("default")
    assert counts() == {"work.noop": Counts(completed=1)}


def test_waiting_ends_and_running_begins_when_the_handler_is_entered(
    tally: Tally, clock: SetClock
) -> None:
    now_is(clock)
    task = enqueue("work.noop")
    run_at = timezone.now() - timedelta(seconds=60)
    Task.objects.filter(pk=task.pk).update(run_at=run_at)
    seen: list[float] = []

    def sleep(task: Task) -> None:
        seen.append(time.monotonic())
        time.sleep(0.3)
        seen.append(time.monotonic())

    made = attempt(claimed(task), sleep)
    tally.add(made, execute(made))
    tally.write("default")
    (row,) = Figure.objects.filter(type="work")
    wait, run_ = (figures.Histogram(found) for found in (row.wait, row.run))
    assert made.claimed < made.entered <= seen[0] < seen[1] <= made.ended
    assert wait.p50 == pytest.approx(made.entered_at - run_at.timestamp(), rel=0.1)
    assert run_.p50 == pytest.approx(made.ended - made.entered, rel=0.1)


def test_a_task_released_by_its_prerequisite_waits_only_from_then_on() -> None:
    first = enqueue("work.noop")
    then = enqueue("work.noop", after=[first])
    later = enqueue("work.noop", after=[first], delay=3600)
    Task.objects.exclude(pk=later.pk).update(run_at=timezone.now() - timedelta(seconds=60))
    made = attempt(claimed(first))
    settle("default", ME, [execute(made)])
    then.refresh_from_db()
    assert then.due
    assert (timezone.now() - then.run_at).total_seconds() < 30
    before = later.run_at
    later.refresh_from_db()
    assert (later.state, later.due, later.run_at) == (State.SCHEDULED, False, before)


def test_the_next_ones_of_a_minute_are_added_and_writing_again_changes_nothing(
    tally: Tally, clock: SetClock
) -> None:
    run(tally)
    tally.write("default")
    run(tally)
    tally.write("default")
    tally._unwritten.add((ME, int(clock.moment // 60)))
    tally.write("default")
    assert [row.completed for row in rows()] == [2]
    clock.moment += 60
    run(tally)
    tally.write("default")
    assert [row.completed for row in rows().order_by("start")] == [2, 1]


def test_a_clock_that_is_set_back_takes_nothing_from_what_was_written(
    tally: Tally, clock: SetClock
) -> None:
    run(tally)
    tally.write("default")
    clock.moment += 60
    run(tally)
    run(tally)
    tally.write("default")
    clock.moment -= 60
    tally.write("default")
    run(tally)
    tally.write("default")
    assert not tally.due(time.monotonic())
    assert [row.completed for row in rows().order_by("start")] == [1, 3]


def test_it_is_time_to_write_when_a_minute_began_or_something_was_counted_a_while_ago(
    tally: Tally, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    assert tally.due(now)
    assert tally.write("default") is False
    assert not tally.due(now)
    run(tally)
    assert not tally.due(time.monotonic())
    assert tally.due(time.monotonic() + tallying.WRITE_EVERY)
    assert tally.write("default") is True
    clock.moment += 60
    assert tally.due(now)


def test_who_has_nothing_to_do_writes_one_row_in_one_statement(tally: Tally) -> None:
    with CaptureQueriesContext(connection) as seen:
        tally.write("default")
        tally.write("default")
    assert len(seen) == 1
    assert rows().get().process == ME


def test_who_has_no_id_yet_writes_nothing(clock: SetClock) -> None:
    nobody = Tally(clock)
    assert not nobody.due(time.monotonic())
    nobody.write("default")
    assert not Figure.objects.exists()


def test_under_a_new_id_nothing_is_counted_twice(tally: Tally) -> None:
    run(tally)
    tally.write("default")
    run(tally)
    tally.serve_as(OTHER)
    run(tally)
    tally.write("default")
    tally.write("default")
    assert dict(rows().values_list("process", "completed")) == {ME: 2, OTHER: 1}


def test_what_could_not_be_written_is_written_the_next_time(
    tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tally)

    def busy(*arguments: Any, **more: Any) -> None:
        raise OperationalError("database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(tallying, "write", busy)
        tally.write("default")
    assert not Figure.objects.exists()
    assert not tally.due(time.monotonic()), "not in each turn of the engine"
    assert tally.due(time.monotonic() + tallying.WRITE_EVERY)
    tally.write("default")
    assert rows().get().completed == 1


def test_while_the_database_is_away_only_so_many_minutes_are_remembered(
    tally: Tally, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallying, "MOST_MINUTES", 3)
    for _ in range(6):
        run(tally)
        clock.moment += 60
    clock.moment -= 60
    tally.write("default")
    assert rows().count() == 3
    assert Task.objects.filter(state=State.RUNNING).exists()


def test_a_minute_that_is_written_late_is_added_to_what_was_summed_up(
    tally: Tally, clock: SetClock
) -> None:
    now_is(clock)
    clock.moment -= 3600
    run(tally)
    late = as_datetime(clock.moment // 60 * 60)
    for minutes in (0, 10, 20):
        start = late + timedelta(minutes=minutes)
        rows_of = with_sums({})
        write("default", start=start, span=60, process=OTHER, rows=rows_of)
    sum_up("default", late + timedelta(minutes=40))
    clock.moment += 1800
    tally.write("default")
    summed = Figure.objects.filter(span=600, queue="").order_by("start")
    assert [row.completed for row in summed[:2]] == [1, 0]
