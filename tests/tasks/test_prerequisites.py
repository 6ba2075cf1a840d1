from datetime import timedelta
from typing import Any

import pytest

from tasks import build, enqueue, enqueue_many
from tasks.exceptions import CircularPrerequisites, InvalidTask
from tasks.models import Prerequisite, State, Task
from tests.tasks.tools import finish, start, state_of

pytestmark = pytest.mark.django_db


def test_a_task_waits_for_an_unfinished_prerequisite() -> None:
    first = enqueue("math.add")
    second = enqueue("math.sum", after=[first])
    assert (second.state, second.due) == (State.WAITING, False)
    first.refresh_from_db()
    assert first.has_dependents is True
    finish(first)
    second.refresh_from_db()
    assert (second.state, second.due) == (State.SCHEDULED, True)


@pytest.mark.parametrize(
    ("states", "begins"),
    [
        ([State.COMPLETED], State.SCHEDULED),
        ([State.COMPLETED, State.COMPLETED], State.SCHEDULED),
        ([State.FAILED], State.WAITING),
        ([State.RUNNING], State.WAITING),
        ([State.SCHEDULED, State.COMPLETED], State.WAITING),
        ([State.CANCELLED], State.CANCELLED),
        ([State.COMPLETED, State.CANCELLED], State.CANCELLED),
        ([State.SCHEDULED, State.CANCELLED], State.CANCELLED),
        ([State.CANCELLED, State.SCHEDULED], State.CANCELLED),
    ],
)
def test_the_state_a_task_begins_in_follows_from_its_prerequisites(
    states: list[str], begins: str
) -> None:
    prerequisites = [enqueue("math.add") for _ in states]
    for task, state in zip(prerequisites, states, strict=True):
        if state == State.RUNNING:
            start(task)
        elif state != State.SCHEDULED:
            finish(task, state)
    task = enqueue("math.sum", after=prerequisites, unique_key="5")
    task.refresh_from_db()
    assert task.state == begins
    assert task.due is (begins == State.SCHEDULED)
    assert (task.finished_at is not None) is (begins == State.CANCELLED)
    assert (task.live_key is None) is (begins == State.CANCELLED)
    assert bool(task.reason) is (begins == State.CANCELLED)


def test_a_stale_copy_of_a_prerequisite_does_not_decide() -> None:
    stale = enqueue("math.add")
    finish(Task.objects.get(pk=stale.pk))
    assert enqueue("math.sum", after=[stale]).state == State.SCHEDULED


def test_a_task_waits_for_the_last_of_its_prerequisites() -> None:
    first, second = enqueue("math.add"), enqueue("math.add")
    task = enqueue("math.sum", after=[first, second])
    finish(second)
    assert state_of(task) == State.WAITING
    finish(first)
    assert state_of(task) == State.SCHEDULED


def test_a_task_released_before_its_time_is_not_due() -> None:
    first = enqueue("math.add")
    task = enqueue("math.sum", after=[first], delay=timedelta(hours=1))
    finish(first)
    task.refresh_from_db()
    assert (task.state, task.due) == (State.SCHEDULED, False)


def test_built_tasks_may_wait_for_each_other_in_any_order_given() -> None:
    a = build("chain.a")
    b = build("chain.b", after=[a])
    c = build("chain.c", after=[b, a])
    assert enqueue_many([c, b, a]) == [c, b, a]
    assert a.pk < b.pk < c.pk, "locks are taken in the order of ids"
    assert [state_of(task) for task in (a, b, c)] == [
        State.SCHEDULED,
        State.WAITING,
        State.WAITING,
    ]
    assert set(c.prerequisites.values_list("prerequisite_id", flat=True)) == {a.pk, b.pk}
    for task in (a, b):
        task.refresh_from_db()
        assert task.has_dependents


def test_tasks_that_wait_for_each_other_need_two_inserts_whatever_their_number(
    django_assert_num_queries: Any,
) -> None:
    first = build("chain.a")
    tasks = [first, *(build("chain.b", after=[first]) for _ in range(10))]
    with django_assert_num_queries(2):
        enqueue_many(tasks)


def test_a_circle_is_refused_naming_its_tasks() -> None:
    a = build("chain.a")
    b = build("chain.b", after=[a])
    c = build("chain.c", after=[b])
    a._after = (c,)
    with pytest.raises(CircularPrerequisites) as caught:
        enqueue_many([build("math.add"), a, b, c])
    assert all(name in str(caught.value) for name in ("chain.a", "chain.b", "chain.c"))
    assert not Task.objects.exists()


def test_a_task_that_waits_for_itself_is_refused() -> None:
    task = build("chain.a")
    task._after = (task,)
    with pytest.raises(CircularPrerequisites):
        enqueue_many([task])


def test_a_prerequisite_that_nobody_saves_is_refused_by_name() -> None:
    with pytest.raises(InvalidTask, match=r"waits for 'chain\.a', which is neither saved"):
        enqueue("chain.b", after=[build("chain.a")])
    assert not Task.objects.exists()


def test_a_prerequisite_that_is_gone_is_refused_by_id() -> None:
    gone = enqueue("chain.a")
    Task.objects.filter(pk=gone.pk).delete()
    with pytest.raises(InvalidTask, match=str(gone.pk)):
        enqueue("chain.b", after=[gone])
    assert not Task.objects.exists(), "and the transaction around it can go on"


def test_a_prerequisite_named_twice_is_one() -> None:
    first = enqueue("chain.a")
    copy = Task.objects.get(pk=first.pk)
    task = enqueue("chain.b", after=[first, first, copy])
    assert Prerequisite.objects.get().task == task


def test_prerequisites_may_come_from_a_generator_and_a_queryset() -> None:
    enqueue_many([build("chain.a"), build("chain.a")])
    task = enqueue("chain.b", after=Task.objects.named("chain.a"))
    assert task.prerequisites.count() == 2
    assert enqueue("chain.c", after=(t for t in [task])).prerequisites.count() == 1


def test_a_cancelled_beginning_cancels_what_was_created_to_wait_for_it() -> None:
    cancelled = finish(enqueue("chain.a"), State.CANCELLED)
    b = build("chain.b", after=[cancelled])
    c = build("chain.c", after=[b])
    enqueue_many([b, c])
    assert (state_of(b), state_of(c)) == (State.CANCELLED, State.CANCELLED)
