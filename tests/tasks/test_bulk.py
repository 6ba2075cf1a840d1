from threading import Barrier
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest
from django.test.utils import CaptureQueriesContext

from orders.models import Order
from tasks import bell, bulk, enqueue, handler, page_bell, sweep
from tasks.bulk_viewer import WHY_STOPPED
from tasks.dashboard.viewer import Viewer
from tasks.exceptions import BulkRefused, LeaseLost
from tasks.models import BulkAction, Queue, State, Task, TaskEvent
from tests.tasks.admin_rows import failed, in_state
from tests.tasks.tools import finish, start, threads
from workers.testing import run_tasks

pytestmark = pytest.mark.django_db(transaction=True)

RIGHTS = ("view_task", "bulk_task", "retry_task")


@pytest.fixture(autouse=True)
def _nothing_runs_what_was_retried() -> None:
    Queue.objects.create(name="default", paused_at="2026-01-01T00:00Z")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "CHUNK", 3)


def person(*rights: str, name: str = "ann") -> User:
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights or RIGHTS))
    return user


def seen_by(user: User) -> Viewer:
    request = HttpRequest()
    request.user = User.objects.get(pk=user.pk)  # type: ignore[attr-defined]
    return Viewer(request, admin.site)


def begin(action: str = "retry", query: str = "state:failed", **more: Any) -> BulkAction:
    return bulk.start(seen_by(person()), action, query, **more)


def run(done: BulkAction) -> BulkAction:
    run_tasks(queues=["aftersave"])
    done.refresh_from_db()
    return done


def states(tasks: list[Task]) -> list[str]:
    known = dict(Task.objects.values_list("pk", "state"))
    return [known[task.pk] for task in tasks]


def no_visible(user: User, tasks: Any) -> Any:
    return tasks.filter(queue="visible")


def only_odd(user: User, action: str, task: Task) -> bool:
    return task.pk % 2 == 1


# What it covers


@pytest.mark.usefixtures("small_chunks")
def test_everything_that_matches_is_retried_once_with_an_event_for_each_task() -> None:
    tasks = [failed() for _ in range(8)]
    other = failed(queue="other")
    done = run(begin(query="state:failed queue:default", reason="the shop is back"))

    assert set(states(tasks)) == {State.SCHEDULED}
    assert states([other]) == [State.FAILED]
    assert (done.expected, done.expected_is_exact, done.done) == (8, True, 8)
    assert done.finished_at is not None
    assert done.skipped == {}
    events = TaskEvent.objects.filter(bulk=done)
    assert sorted(events.values_list("task_id", flat=True)) == [task.pk for task in tasks]
    assert set(events.values_list("action", "who", "reason")) == {
        ("retry", "ann", "the shop is back")
    }


@pytest.mark.usefixtures("small_chunks")
def test_its_progress_shows_on_its_task() -> None:
    for _ in range(4):
        failed()
    done = run(begin())
    task = done.task
    assert task is not None
    assert (task.state, task.attempts) == (State.COMPLETED, 1)
    assert task.progress_value == {"done": 4, "total": 4}


def test_a_task_that_fails_after_it_was_pressed_is_left_alone() -> None:
    late = enqueue("shop.do")
    before = failed()
    begun = begin()
    finish(late, State.FAILED)
    done = run(begun)
    assert states([before, late]) == [State.SCHEDULED, State.FAILED]
    assert done.skipped == {"changed": 1}


def test_a_task_created_after_it_was_pressed_is_left_alone() -> None:
    failed()
    begun = begin()
    younger = failed()
    assert run(begun).done == 1
    assert states([younger]) == [State.FAILED]


@pytest.mark.usefixtures("small_chunks")
def test_a_task_that_was_retried_and_fails_again_is_not_touched_again() -> None:
    @handler("shop.hopeless", max_attempts=1, queue="hopeless")
    def hopeless(task: Task) -> None:
        raise ValueError("again")

    tasks = [failed("shop.hopeless") for _ in range(7)]
    begun = begin(per_second=1000)
    run_tasks(queues=["aftersave", "hopeless"])
    begun.refresh_from_db()
    assert set(states(tasks)) == {State.FAILED}
    assert begun.done == 7
    assert TaskEvent.objects.filter(bulk=begun).count() == 7


def test_what_no_longer_fits_is_skipped_and_counted() -> None:
    taken = failed(unique_key="one")
    tasks = [failed() for _ in range(3)]
    begun = begin()
    enqueue("shop.do", unique_key="one")
    tasks[0].retry()
    done = run(begun)
    assert done.done == 2
    assert done.skipped == {"unique_key": 1, "left": 1}
    assert states([taken]) == [State.FAILED]


def test_a_task_on_which_somebody_acted_after_it_was_pressed_is_not_cancelled() -> None:
    retried, untouched = failed(), enqueue("shop.do")
    begun = bulk.start(
        seen_by(person("view_task", "bulk_task", "cancel_task")),
        "cancel",
        "queue:default",
        reason="wrong shop",
    )
    retried.retry()
    done = run(begun)
    assert states([untouched, retried]) == [State.CANCELLED, State.SCHEDULED]
    assert done.skipped == {"changed": 1}


def test_a_task_that_matches_only_since_its_data_were_changed_is_left_alone() -> None:
    right = person("view_task_data", *RIGHTS, name="bo")
    one, other = failed(data={"shop": "mill"}), failed(data={"shop": "dairy"})
    begun = bulk.start(seen_by(right), "retry", "data.shop:mill")
    other.change_data({"shop": "mill"}, by="eve", reason="typo")
    done = run(begun)
    assert states([one, other]) == [State.SCHEDULED, State.FAILED]
    assert (done.done, done.skipped) == (1, {"changed": 1})


def test_its_own_tasks_never_match() -> None:
    first = run(begin())
    again = bulk.start(
        seen_by(person("view_task", "bulk_task", "retry_task", name="bob")),
        "run_again",
        "state:completed",
        reason="why not",
    )
    done = run(again)
    assert (done.done, done.skipped) == (0, {"own": 1})
    assert states([first.task]) == [State.COMPLETED]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("action", "right", "touched", "becomes"),
    [
        ("retry", "retry_task", ["failed"], State.SCHEDULED),
        ("run_now", "run_task_now", ["later", "retrying"], State.SCHEDULED),
        ("cancel", "cancel_task", ["waiting", "later", "retrying", "due"], State.CANCELLED),
        ("complete", "complete_task", ["failed"], State.COMPLETED),
        ("run_again", "retry_task", ["completed"], State.SCHEDULED),
    ],
)
def test_a_search_without_a_state_means_the_states_that_the_action_is_for(
    action: str, right: str, touched: list[str], becomes: State
) -> None:
    shown = ["waiting", "later", "retrying", "due", "running", "failed", "completed", "cancelled"]
    tasks = {state: in_state(state, "shop.mine") for state in shown}
    before = {state: task.shown_state for state, task in tasks.items()}
    user = person("view_task", "bulk_task", right)
    done = run(bulk.start(seen_by(user), action, "name:shop.mine", reason="so"))

    assert (done.expected, done.done) == (len(touched), len(touched))
    for state, task in tasks.items():
        task.refresh_from_db()
        assert (task.state == becomes) if state in touched else (task.shown_state == before[state])
        assert not (action == "run_now" and state in touched and not task.due)


# How it goes on


@pytest.mark.usefixtures("small_chunks")
def test_who_goes_on_begins_where_the_last_committed_chunk_ended() -> None:
    tasks = [failed() for _ in range(8)]
    begun = begin()
    own = start(Task.objects.get(pk=begun.task_id))

    sweep._step(own, begun.pk)
    begun.refresh_from_db()
    assert (begun.cursor, begun.done) == (tasks[5].pk, 3)
    Task.objects.filter(pk=own.pk).update(state=State.SCHEDULED, due=True, worker_id=None)

    assert run(begun).done == 8
    assert set(states(tasks)) == {State.SCHEDULED}
    assert TaskEvent.objects.filter(bulk=begun).count() == 8


@pytest.mark.usefixtures("small_chunks")
def test_a_worker_that_lost_the_task_writes_nothing_more() -> None:
    tasks = [failed() for _ in range(5)]
    begun = begin()
    ghost = start(Task.objects.get(pk=begun.task_id))
    Task.objects.filter(pk=ghost.pk).update(lease=ghost.lease + 1)
    with pytest.raises(LeaseLost):
        sweep._step(ghost, begun.pk)
    begun.refresh_from_db()
    assert (begun.cursor, begun.done) == (None, 0)
    assert set(states(tasks)) == {State.FAILED}


def test_a_throttled_one_does_what_fits_and_snoozes() -> None:
    tasks = [failed() for _ in range(5)]
    begun = run(begin(per_second=1))
    own = begun.task
    assert own is not None
    assert begun.done == 2
    assert (own.state, own.due, own.attempts) == (State.SCHEDULED, False, 0)
    assert states(tasks) == ["failed"] * 3 + ["scheduled"] * 2
    wait = (own.run_at - begun.progressed_at).total_seconds()  # type: ignore[operator]
    # Two seconds for two tasks, less what the step itself took.
    assert 0 < wait < 10


@pytest.mark.usefixtures("small_chunks")
def test_others_get_the_slot_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "TURN", 0.0)
    for _ in range(7):
        failed()
    done = run(begin())
    assert done.done == 7
    assert done.task is not None
    assert (done.task.lease, done.task.attempts) == (3, 1)


@pytest.mark.usefixtures("small_chunks")
def test_a_paused_one_touches_nothing_until_it_is_resumed() -> None:
    tasks = [failed() for _ in range(5)]
    begun = begin()
    own = start(Task.objects.get(pk=begun.task_id))
    sweep._step(own, begun.pk)
    assert bulk.pause(begun, by="bob", reason="too many calls")
    assert not bulk.pause(begun)
    with pytest.raises(sweep.Over):
        sweep._step(own, begun.pk)
    finish_own(own)

    assert run(begun).done == 3
    assert bulk.resume(begun, by="bob")
    assert not bulk.resume(begun)
    done = run(begun)
    assert (done.done, done.paused_at) == (5, None)
    assert set(states(tasks)) == {State.SCHEDULED}
    told = list(done.story.values_list("action", "who", "reason"))
    assert told == [
        ("bulk_start", "ann", ""),
        ("bulk_pause", "bob", "too many calls"),
        ("bulk_resume", "bob", ""),
    ]


@pytest.mark.usefixtures("small_chunks")
def test_a_task_that_was_replaced_by_a_resume_touches_nothing() -> None:
    tasks = [failed() for _ in range(5)]
    begun = begin()
    first = start(Task.objects.get(pk=begun.task_id))
    bulk.pause(begun)
    bulk.resume(begun)
    with pytest.raises(sweep.Over):
        sweep._step(first, begun.pk)
    assert set(states(tasks)) == {State.FAILED}


@pytest.mark.usefixtures("small_chunks")
def test_a_cancelled_one_keeps_what_is_done_and_goes_no_further() -> None:
    tasks = [failed() for _ in range(5)]
    begun = begin()
    own = start(Task.objects.get(pk=begun.task_id))
    sweep._step(own, begun.pk)
    assert bulk.cancel(begun, by="bob", reason="wrong search")
    with pytest.raises(sweep.Over):
        sweep._step(own, begun.pk)
    begun.refresh_from_db()
    assert begun.finished_at == begun.cancelled_at
    assert states(tasks) == ["failed"] * 2 + ["scheduled"] * 3
    for steer in (bulk.cancel, bulk.pause, bulk.resume):
        assert not steer(begun)


def test_one_whose_task_was_cancelled_by_staff_can_be_resumed() -> None:
    failed()
    begun = begin()
    assert not bulk.is_adrift(begun)
    Task.objects.get(pk=begun.task_id).cancel()
    begun.refresh_from_db()
    assert bulk.is_adrift(begun)
    assert bulk.resume(begun)
    assert run(begun).done == 1


def finish_own(task: Task) -> None:
    from tasks.settle import settle
    from tests.tasks.tools import WORKER, ending

    assert settle("default", WORKER, [ending(task)]) == {task.pk}


# Who may


@pytest.mark.parametrize("missing", RIGHTS)
def test_without_each_right_it_cannot_be_started(missing: str) -> None:
    user = person(*[right for right in RIGHTS if right != missing])
    with pytest.raises(PermissionDenied):
        bulk.start(seen_by(user), "retry", "state:failed")
    assert not BulkAction.objects.exists()


def withdraw_a_right(user: User) -> None:
    user.user_permissions.remove(Permission.objects.get(codename="retry_task"))


def deactivate(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def dismiss(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_staff=False)


def remove(user: User) -> None:
    user.delete()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("withdraw", "why"),
    [(withdraw_a_right, "right"), (deactivate, "user"), (dismiss, "site"), (remove, "user")],
)
def test_who_loses_the_right_on_the_way_stops_it_with_the_reason(withdraw: Any, why: str) -> None:
    tasks = [failed() for _ in range(5)]
    user = person()
    begun = bulk.start(seen_by(user), "retry", "state:failed")
    own = start(Task.objects.get(pk=begun.task_id))
    sweep._step(own, begun.pk)
    withdraw(user)
    with pytest.raises(sweep.Over):
        sweep._step(own, begun.pk)
    begun.refresh_from_db()
    assert (begun.stopped_because, begun.done) == (why, 3)
    assert begun.finished_at is not None
    assert states(tasks) == ["failed"] * 2 + ["scheduled"] * 3
    assert why in WHY_STOPPED


def permission_by_session(site: AdminSite, request: Any) -> bool:
    return "blocked" not in request.session and request.path.startswith("/admin/")


def test_a_site_that_reads_session_and_path_decides_here_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = [failed()]
    monkeypatch.setattr(AdminSite, "has_permission", permission_by_session)
    assert (run(begin()).done, states(tasks)) == (1, [State.SCHEDULED])


def permission_by_tenant(site: AdminSite, request: Any) -> bool:
    return bool(request.tenant.is_open)


def test_a_site_that_cannot_decide_stops_it_and_says_so_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [failed()]
    begun = begin()
    monkeypatch.setattr(AdminSite, "has_permission", permission_by_tenant)
    done = run(begun)
    assert (done.stopped_because, done.done, states(tasks)) == ("site", 0, [State.FAILED])
    assert done.task is not None
    assert done.task.state == State.COMPLETED
    assert "request that has only a user" in caplog.text


def test_a_records_admin_that_cannot_do_without_more_stops_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = Order.objects.create(customer="Ann", email="ann@example.com")
    Task.objects.all().delete()
    tasks = [failed(record=order)]
    user = person(*RIGHTS, "view_order")
    begun = bulk.start(seen_by(user), "retry", f"record:{order.pk}")
    monkeypatch.setattr(ModelAdmin, "get_queryset", lambda admin, request: request.tenant.orders)
    done = run(begun)
    assert (done.stopped_because, states(tasks)) == ("query", [State.FAILED])


def test_what_a_person_may_not_see_does_not_match(settings: Any) -> None:
    settings.AFTERSAVE = {"VISIBLE_TASKS": no_visible}
    hidden, visible = failed(), failed(queue="visible")
    done = run(begin())
    assert (done.expected, done.done) == (1, 1)
    assert states([hidden, visible]) == [State.FAILED, State.SCHEDULED]


def test_what_a_person_may_not_do_is_skipped_and_counted(settings: Any) -> None:
    settings.AFTERSAVE = {"MAY": only_odd}
    tasks = [failed() for _ in range(4)]
    done = run(begin())
    assert (done.done, done.skipped) == (2, {"forbidden": 2})
    assert {task.pk % 2 for task in tasks if states([task]) == [State.SCHEDULED]} == {1}


# How it is started


def test_one_form_starts_one() -> None:
    failed()
    viewer, token = seen_by(person()), uuid4()
    first = bulk.start(viewer, "retry", "state:failed", token=token)
    again = bulk.start(viewer, "retry", "state:failed", token=token)
    assert again == first
    assert Task.objects.named("aftersave.bulk").count() == 1
    assert TaskEvent.objects.filter(about=first).count() == 1
    assert LogEntry.objects.count() == 1


def test_two_clicks_at_the_same_moment_start_one() -> None:
    failed()
    user, token, both = person(), uuid4(), Barrier(2)

    def click() -> int:
        viewer = seen_by(user)
        both.wait(10)
        return int(bulk.start(viewer, "retry", "state:failed", token=token).pk)

    with threads(2) as begin_in_thread:
        clicks = [begin_in_thread(click) for _ in range(2)]
    assert {done.result(30) for done in clicks} == {BulkAction.objects.get().pk}
    assert Task.objects.named("aftersave.bulk").count() == 1


@pytest.mark.parametrize(("reason", "told"), [("", ""), ("it is back", " (it is back)")])
def test_it_is_one_entry_in_the_admins_log(reason: str, told: str) -> None:
    for _ in range(3):
        failed()
    run(begin(query="state:failed queue:default", reason=reason))
    entry = LogEntry.objects.get()
    assert (entry.user.get_username(), entry.get_change_message()) == (
        "ann",
        f"retry: state:failed queue:default{told}",
    )


@pytest.mark.parametrize(
    ("action", "query", "how"),
    [
        ("explode", "state:failed", {}),
        ("retry", "colour:red", {}),
        ("cancel", "queue:default", {}),
        ("cancel", "queue:default", {"reason": "  "}),
        ("retry", "state:failed", {"per_second": 0}),
        ("retry", "state:failed", {"per_second": float("nan")}),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    action: str, query: str, how: dict[str, Any]
) -> None:
    viewer = seen_by(person("view_task", "bulk_task", "retry_task", "cancel_task"))
    with pytest.raises(BulkRefused):
        bulk.start(viewer, action, query, **how)
    assert not BulkAction.objects.exists()
    assert not Task.objects.exists()


def test_a_chunk_costs_as_many_statements_however_many_tasks_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = []
    for size in (2, 20):
        monkeypatch.setattr(sweep, "CHUNK", size)
        for _ in range(size + 1):
            failed()
        begun = bulk.start(seen_by(person(name=f"ann{size}")), "retry", "state:failed")
        own = start(Task.objects.get(pk=begun.task_id))
        # Else what pages and workers were told a moment ago decides whether they are told this.
        monkeypatch.setattr(page_bell, "_bells", {})
        monkeypatch.setattr(bell, "_last_rung", {})
        with CaptureQueriesContext(connection) as captured:
            sweep._step(own, begun.pk)
        costs.append([query["sql"][:60] for query in captured])
    assert len(costs[0]) == len(costs[1]) < 40, costs
