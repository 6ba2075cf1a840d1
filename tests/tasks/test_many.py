"""One action on hundreds of tasks: in one transaction, in few statements, each at most once."""

import pytest
from django.db import transaction

from tasks import enqueue, enqueue_many
from tasks.actions import MOVES, many
from tasks.enqueueing import build
from tasks.models import BulkAction, Incident, State, Task, TaskEvent
from tasks.signals import staff_acted
from tests.tasks.admin_rows import in_state
from tests.tasks.tools import finish, start, state_of, threads, wait_until_blocked

db = pytest.mark.django_db
races = pytest.mark.django_db(transaction=True)

STATES = ("waiting", "later", "due", "running", "retrying", "failed", "completed", "cancelled")
LEADS_TO = {
    "retry": "due",
    "run_again": "due",
    "run_now": "due",
    "cancel": "cancelled",
    "complete": "completed",
}


def shown(task: Task) -> str:
    return Task.objects.get(pk=task.pk).shown_state


def failed(count: int, **options) -> list[Task]:
    tasks = enqueue_many(build("math.add", **options) for _ in range(count))
    return [finish(task, State.FAILED, reason="r", fingerprint="f") for task in tasks]


@db
@pytest.mark.parametrize("action", MOVES)
def test_it_is_done_to_what_it_fits_and_the_rest_is_counted_by_its_state(action):
    tasks = {state: in_state(state) for state in STATES}
    TaskEvent.objects.all().delete()
    outcome = many("default", [task.pk for task in tasks.values()], action, by="eve", reason="r")
    fitting = MOVES[action].states
    assert outcome.done == {tasks[state].pk for state in fitting}
    assert outcome.skipped == {state: 1 for state in STATES if state not in fitting}
    for state, task in tasks.items():
        assert shown(task) == (LEADS_TO[action] if state in fitting else state)
    events = TaskEvent.objects.filter(action=action, who="eve", reason="r")
    assert {event.task_id for event in events} == outcome.done


@db
@pytest.mark.parametrize("action", MOVES)
def test_many_do_what_one_does(action):
    state = MOVES[action].states[0]
    one, other = in_state(state), in_state(state)
    reason = {"reason": "r"} if action == "run_again" else {}
    getattr(one, action)(by="eve", **reason)
    many("default", [other.pk], action, by="eve", **reason)
    volatile = ("id", "run_at", "created_at", "finished_at", "idempotency_key")
    rows = [
        {key: value for key, value in row.items() if key not in volatile}
        for row in Task.objects.filter(pk__in=[one.pk, other.pk]).values()
    ]
    assert rows[0] == rows[1]


@db
def test_hundreds_take_few_statements(django_assert_max_num_queries):
    ids = [task.pk for task in failed(200)]
    with django_assert_max_num_queries(12):
        assert many("default", ids, "retry").done == set(ids)
    with django_assert_max_num_queries(20):
        assert many("default", ids, "cancel").done == set(ids)
    with django_assert_max_num_queries(20):
        assert many("default", ids, "complete").done == set(ids)


@db
def test_every_retry_allows_as_many_attempts_as_each_task_was_created_with():
    tasks = [*failed(2, max_attempts=5), *failed(2, max_attempts=1)]
    ids = [task.pk for task in tasks]
    for attempts in (1, 2):
        many("default", ids, "retry")
        rows = Task.objects.filter(pk__in=ids).order_by("pk")
        assert [row.max_attempts for row in rows] == [
            attempts + allowed for allowed in (5, 5, 1, 1)
        ]
        for row in rows:
            finish(row, State.FAILED)


@db
def test_the_context_of_a_retried_task_is_kept():
    task = finish(enqueue("crm.sync", unique_key="5", max_attempts=3), State.FAILED)
    many("default", [task.pk], "retry")
    task.refresh_from_db()
    assert task.context == {"unique_key": "crm.sync:5", "max_attempts": 3}
    assert task.live_key == "crm.sync:5"


@db
def test_of_tasks_with_one_unique_key_the_first_is_retried():
    tasks = [finish(enqueue("crm.sync", unique_key="5"), State.FAILED) for _ in range(3)]
    other = finish(enqueue("crm.sync", unique_key="6"), State.FAILED)
    plain = finish(enqueue("crm.sync"), State.FAILED)
    outcome = many("default", [task.pk for task in (*tasks, other, plain)], "retry")
    assert outcome.done == {tasks[0].pk, other.pk, plain.pk}
    assert outcome.skipped == {"unique_key": 2}
    keys = (
        Task.objects.filter(pk__in=outcome.done).order_by("pk").values_list("live_key", flat=True)
    )
    assert list(keys) == ["crm.sync:5", "crm.sync:6", None]


@db
def test_a_key_that_a_live_task_has_is_left_to_it():
    task = finish(enqueue("crm.sync", unique_key="5"), State.FAILED)
    enqueue("crm.sync", unique_key="5")
    assert many("default", [task.pk], "retry").skipped == {"unique_key": 1}
    assert state_of(task) == State.FAILED


@db
def test_what_waits_for_cancelled_tasks_is_cancelled_with_them_also_when_it_is_ticked_itself():
    first = enqueue("math.add")
    second = enqueue("math.sum", after=[first])
    third = enqueue("math.sum", after=[second])
    outcome = many("default", [first.pk, second.pk], "cancel", by="eve")
    assert outcome.done == {first.pk, second.pk}
    assert [state_of(task) for task in (first, second, third)] == ["cancelled"] * 3


@db
def test_retried_tasks_wait_for_each_other_again():
    first = enqueue("math.add")
    second = enqueue("math.sum", after=[first])
    finish(first, State.FAILED)
    second.cancel()
    many("default", [first.pk, second.pk], "retry")
    assert [state_of(task) for task in (first, second)] == ["scheduled", "waiting"]
    finish(first)
    assert state_of(second) == "scheduled"


@db
def test_done_tasks_release_what_waits_for_all_of_them():
    tasks = failed(2)
    after = enqueue("math.sum", after=tasks)
    many("default", [task.pk for task in tasks], "complete")
    assert state_of(after) == "scheduled"


@db
def test_deleted_tasks_are_counted():
    task = in_state("failed")
    gone = in_state("failed")
    Task.objects.filter(pk=gone.pk).delete()
    outcome = many("default", [task.pk, gone.pk], "retry")
    assert (outcome.done, outcome.skipped) == ({task.pk}, {"gone": 1})


@db
def test_nothing_given_is_nothing_done():
    outcome = many("default", [], "retry")
    assert (outcome.done, outcome.skipped) == (set(), {})


@db
def test_events_name_the_bulk_action_and_the_incident_they_belong_to():
    task = in_state("failed")
    bulk = BulkAction.objects.create(action="retry")
    incident = Incident.objects.create(fingerprint="f", type="shop", action="do")
    many("default", [task.pk], "retry", bulk=bulk, incident=incident)
    event = task.events.get()
    assert (event.bulk, event.incident) == (bulk, incident)


@db
def test_listeners_hear_of_each_after_the_commit(django_capture_on_commit_callbacks):
    heard = []

    def listen(event, **kwargs):
        heard.append(event.task_id)

    staff_acted.connect(listen)
    try:
        tasks = failed(3)
        with django_capture_on_commit_callbacks(execute=True):
            many("default", [task.pk for task in tasks], "retry")
            assert heard == []
    finally:
        staff_acted.disconnect(listen)
    assert sorted(heard) == [task.pk for task in tasks]


@db
def test_rolled_back_it_leaves_nothing() -> None:
    tasks = failed(2)
    with transaction.atomic():
        many("default", [task.pk for task in tasks], "retry")
        transaction.set_rollback(True)
    assert [state_of(task) for task in tasks] == ["failed", "failed"]
    assert not TaskEvent.objects.exists()


@races
def test_two_that_retry_the_same_tasks_at_once_retry_each_once():
    tasks = failed(20)
    ids = [task.pk for task in tasks]
    with threads(2) as run:
        outcomes = [f.result(60) for f in [run(many, "default", ids, "retry") for _ in range(2)]]
    assert outcomes[0].done | outcomes[1].done == set(ids)
    assert not outcomes[0].done & outcomes[1].done
    assert sum(outcome.skipped.get("due", 0) for outcome in outcomes) == 20
    assert TaskEvent.objects.count() == 20


@races
def test_a_key_taken_at_the_same_moment_is_counted_and_the_others_are_retried():
    task = finish(enqueue("crm.sync", unique_key="5"), State.FAILED)
    plain = finish(enqueue("crm.sync"), State.FAILED)
    with threads(1) as run:
        with transaction.atomic():
            enqueue("crm.sync", unique_key="5")
            theirs = run(many, "default", [task.pk, plain.pk], "retry")
            wait_until_blocked()
        outcome = theirs.result(30)
    assert (outcome.done, outcome.skipped) == ({plain.pk}, {"unique_key": 1})


@races
def test_many_wait_for_a_row_that_one_person_has_just_changed():
    tasks = failed(2)
    with threads(1) as run:
        with transaction.atomic():
            tasks[0].complete(by="adam")
            theirs = run(many, "default", [task.pk for task in tasks], "retry")
            wait_until_blocked()
        outcome = theirs.result(30)
    assert (outcome.done, outcome.skipped) == ({tasks[1].pk}, {"completed": 1})


@races
def test_what_a_worker_claimed_meanwhile_is_not_cancelled():
    tasks = [enqueue("math.add") for _ in range(2)]
    with threads(1) as run:
        with transaction.atomic():
            start(Task.objects.get(pk=tasks[1].pk))
            theirs = run(many, "default", [task.pk for task in tasks], "cancel")
            wait_until_blocked()
        outcome = theirs.result(30)
    assert (outcome.done, outcome.skipped) == ({tasks[0].pk}, {"running": 1})


@races
def test_cancelling_and_retrying_the_same_chains_at_once_never_blocks_for_ever():
    chains = []
    for _ in range(5):
        first = enqueue("math.add")
        chains += [first, enqueue("math.sum", after=[first])]
    ids = [task.pk for task in chains]

    def again_and_again(action):
        for _ in range(10):
            many("default", ids if action == "cancel" else ids[::-1], action)

    with threads(2) as run:
        for future in [run(again_and_again, action) for action in ("cancel", "retry")]:
            future.result(120)
    assert {state_of(task) for task in chains} <= {"scheduled", "waiting", "cancelled"}


@races
def test_a_retry_and_a_mark_as_done_at_once_are_one_of_them():
    task = in_state("failed")
    with threads(2) as run:
        pressed = [run(many, "default", [task.pk], action) for action in ("retry", "complete")]
        outcomes = [future.result(30) for future in pressed]
    assert sorted(len(outcome.done) for outcome in outcomes) == [0, 1]
    assert task.events.count() == 1


@races
def test_of_a_retry_and_a_cancel_at_once_the_task_is_what_the_last_one_said():
    for _ in range(5):
        task = in_state("failed")
        with threads(2) as run:
            retried = run(many, "default", [task.pk], "retry")
            cancelled = run(many, "default", [task.pk], "cancel")
        assert retried.result().done == {task.pk}
        was_cancelled = bool(cancelled.result().done)
        assert shown(task) == ("cancelled" if was_cancelled else "due")
        actions = list(task.events.values_list("action", flat=True))
        assert actions == (["retry", "cancel"] if was_cancelled else ["retry"])
