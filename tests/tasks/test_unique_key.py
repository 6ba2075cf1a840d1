import pytest
from django.db import transaction

from tasks import build, enqueue, enqueue_many
from tasks.models import State, Task
from tasks.settle import settle_own
from tests.tasks.tools import (
    WORKER,
    ending,
    finish,
    start,
    state_of,
    threads,
    wait_until_blocked,
)


def enqueue_five() -> Task:
    return enqueue("crm.sync", unique_key="5")


@pytest.mark.django_db
def test_a_taken_key_gives_the_task_that_has_it() -> None:
    first = enqueue("crm.sync", {"n": 1}, unique_key="order-5")
    second = enqueue("crm.sync", {"n": 2}, unique_key="order-5")
    assert second == first
    assert second.data == {"n": 1}
    assert Task.objects.count() == 1


@pytest.mark.django_db
def test_a_key_belongs_to_one_name() -> None:
    assert enqueue("crm.sync", unique_key="5") != enqueue("crm.drop", unique_key="5")


@pytest.mark.django_db
@pytest.mark.parametrize(("one", "other"), [("a", "A"), ("a", "á"), ("ss", "ß"), ("", " a")])
def test_keys_are_compared_exactly_on_every_database(one: str, other: str) -> None:
    assert enqueue("crm.sync", unique_key=one) != enqueue("crm.sync", unique_key=other)


@pytest.mark.django_db
def test_a_key_is_taken_while_the_task_can_still_run() -> None:
    waiting = enqueue("crm.sync", unique_key="5", after=[enqueue("math.add")])
    assert waiting.state == State.WAITING
    assert enqueue("crm.sync", unique_key="5") == waiting
    running = start(enqueue("crm.sync", unique_key="6"))
    assert enqueue("crm.sync", unique_key="6") == running


@pytest.mark.django_db
@pytest.mark.parametrize("state", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_a_key_is_free_after_any_end(state: str) -> None:
    first = finish(enqueue("crm.sync", unique_key="5"), state)
    assert first.live_key is None
    assert enqueue("crm.sync", unique_key="5") != first


@pytest.mark.django_db
def test_one_batch_writes_one_task_for_one_key() -> None:
    tasks = [build("crm.sync", {"n": n}, unique_key="5") for n in range(3)]
    created = enqueue_many([build("math.add"), *tasks, build("crm.sync", unique_key="6")])
    assert [task.data.get("n") for task in created] == [None, 0, 0, 0, None]
    assert created[1] is created[2] is created[3]
    assert Task.objects.count() == 3


@pytest.mark.django_db
def test_who_waits_for_a_task_not_written_waits_for_the_one_that_has_the_key() -> None:
    holder = enqueue("crm.sync", unique_key="5")
    again = build("crm.sync", unique_key="5")
    dependent = build("math.add", after=[again])
    assert enqueue_many([again, dependent])[0] == holder
    assert dependent.prerequisites.get().prerequisite == holder
    finish(Task.objects.get(pk=holder.pk))
    assert Task.objects.get(pk=dependent.pk).state == State.SCHEDULED


@pytest.mark.django_db
def test_a_taken_key_spoils_neither_the_batch_nor_the_transaction() -> None:
    enqueue("crm.sync", unique_key="5")
    with transaction.atomic():
        enqueue("crm.sync", unique_key="5")
        enqueue("math.add")
    assert Task.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_of_two_who_enqueue_one_key_at_once_the_second_gets_the_task_of_the_first() -> None:
    with threads(1) as run:
        with transaction.atomic():
            mine = enqueue("crm.sync", unique_key="5")
            theirs = run(enqueue_five)
            wait_until_blocked()
        assert theirs.result(10) == mine
    assert Task.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_key_whose_transaction_was_rolled_back_is_free_for_who_waited_for_it() -> None:
    with threads(1) as run:
        with transaction.atomic():
            enqueue("crm.sync", {"mine": True}, unique_key="5")
            theirs = run(enqueue_five)
            wait_until_blocked()
            transaction.set_rollback(True)
        theirs.result(10)
    assert Task.objects.get().data == {}


@pytest.mark.django_db(transaction=True)
def test_many_threads_with_few_keys_make_one_task_for_each_key() -> None:
    def enqueue_all(thread: int) -> list[int]:
        keys = [f"{(thread + n) % 5}" for n in range(10)]
        return [enqueue("crm.sync", unique_key=key).pk for key in keys]

    with threads(6) as run:
        running = [run(enqueue_all, thread) for thread in range(6)]
        ids = {pk for thread in running for pk in thread.result(30)}
    assert len(ids) == Task.objects.count() == 5


@pytest.mark.django_db(transaction=True)
def test_a_second_try_for_a_key_sees_that_a_prerequisite_has_ended_meanwhile() -> None:
    """The first try found it running; nobody would wake the dependent any more."""
    prerequisite = start(enqueue("math.add"))
    dependent = build("math.sum", after=[prerequisite])

    def enqueue_both() -> list[Task]:
        return enqueue_many([build("crm.sync", unique_key="5"), dependent])

    def end() -> bool:
        with transaction.atomic():
            return settle_own("default", WORKER, ending(prerequisite))

    with threads(2) as run:
        with transaction.atomic():
            enqueue_five()
            # Holds the prerequisite, and waits for our key.
            theirs = run(enqueue_both)
            wait_until_blocked(1)
            ended = run(end)
            wait_until_blocked(2)
        theirs.result(10)
        assert ended.result(10)
    assert state_of(dependent) == State.SCHEDULED
