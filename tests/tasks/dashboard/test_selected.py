"""Buttons for the ticked rows of the list."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from tasks import enqueue
from tasks.dashboard.versions import versions
from tasks.models import Task, TaskEvent
from tests.tasks.admin_rows import EVERYTHING, LIST, in_state, messages_of, staff, text_of
from tests.tasks.tools import finish, threads

pytestmark = pytest.mark.django_db

BUTTONS = {
    "retry": "failed",
    "run_again": "completed",
    "run_now": "later",
    "cancel": "due",
    "complete": "failed",
}


@pytest.fixture
def client() -> Client:
    return staff(*EVERYTHING)


def ticked(tasks) -> list[str]:
    """What the boxes of these tasks send, on a page that is loaded now."""
    known = versions(Task.objects.filter(pk__in=[task.pk for task in tasks]))
    return [f"{pk}:{version}" for pk, version in known.items()]


def press(client, name, tasks, reason="because", **form):
    form = {"ticked": ticked(tasks), f"reason-{name}-selected": reason, "next": LIST, **form}
    return client.post(f"{LIST}selected/{name}/", form, follow=True)


def shown(task: Task) -> str:
    return Task.objects.get(pk=task.pk).shown_state


def test_retry_acts_on_what_fits_and_counts_the_rest(client):
    tasks = [in_state(state) for state in ("failed", "cancelled", "running", "due", "failed")]
    TaskEvent.objects.all().delete()
    response = press(client, "retry", tasks)
    assert response.redirect_chain == [(LIST, 302)]
    (message,) = messages_of(response)
    assert message.startswith("3 retried, 2 skipped: 1 is due, 1 is running. ")
    assert "/activity/" in message
    entries = LogEntry.objects.all()
    assert {entry.object_id for entry in entries} == {str(tasks[i].pk) for i in (0, 1, 4)}
    assert {entry.change_message for entry in entries} == {"Retried: because"}
    assert {entry.user.username for entry in entries} == {"ann"}
    assert TaskEvent.objects.filter(action="retry", who="ann", reason="because").count() == 3


@pytest.mark.parametrize("name", ["cancel", "complete", "run_again"])
@pytest.mark.parametrize("reason", ["", " "])
def test_where_a_reason_is_required_nothing_is_done_without_one(client, name, reason):
    task = in_state(BUTTONS[name])
    response = press(client, name, [task], reason)
    assert "please give a reason" in messages_of(response)[0]
    assert shown(task) == BUTTONS[name]


def test_nothing_ticked_is_nothing_done(client):
    assert "please tick some tasks first" in messages_of(press(client, "retry", []))[0]


@pytest.mark.parametrize(("name", "state"), BUTTONS.items())
def test_who_lacks_the_right_gets_403(name, state):
    right = {"retry": "retry_task", "run_again": "retry_task", "run_now": "run_task_now"}
    lost = right.get(name, f"{name}_task")
    task = in_state(state)
    others = [right for right in EVERYTHING if right != lost]
    assert press(staff(*others), name, [task]).status_code == 403
    assert press(staff(lost, name="eve"), name, [task]).status_code == 403
    assert shown(task) == state


def test_tasks_outside_the_scope_are_as_good_as_deleted(client, settings):
    mine, other = in_state("failed"), in_state("failed", "secret.do")
    settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.filter(type="shop")}
    (message,) = messages_of(press(client, "retry", [mine, other]))
    assert message.startswith("1 retried, 1 skipped: 1 is deleted.")
    assert shown(other) == "failed"


def test_what_the_host_forbids_is_skipped(client, settings):
    mine, other = in_state("failed"), in_state("failed", "shop.refund")
    settings.AFTERSAVE = {"MAY": lambda user, action, task: task.name != "shop.refund"}
    (message,) = messages_of(press(client, "retry", [mine, other]))
    assert message.startswith("1 retried, 1 skipped: 1 you may not touch.")
    assert shown(other) == "failed"


def test_a_unique_key_taken_by_another_is_counted(client):
    task = finish(enqueue("shop.do", unique_key="k"), "failed")
    enqueue("shop.do", unique_key="k")
    (message,) = messages_of(press(client, "retry", [task]))
    assert message == "0 retried, 1 skipped: of 1 another task has the unique key."


class TestTheWayBack:
    def address(self, response) -> str:
        found = re.search(r'formaction="([^"]+)"', messages_of(response)[0])
        assert found
        return found[1]

    def test_takes_back_what_was_done_and_nothing_else_that_is_ticked(self, client):
        tasks, other = [in_state("failed") for _ in range(2)], in_state("due")
        response = press(client, "retry", [*tasks, other])
        form = {"ticked": ticked([other]), "next": LIST}
        back = client.post(self.address(response), form, follow=True)
        assert messages_of(back)[0].startswith("2 cancelled. ")
        assert [shown(task) for task in (*tasks, other)] == ["cancelled", "cancelled", "due"]
        assert TaskEvent.objects.filter(reason="Taken back.").count() == 2

    def test_leaves_alone_what_somebody_else_touched_since(self, client):
        task, mine = in_state("due"), in_state("due")
        address = self.address(press(client, "cancel", [task, mine]))
        task.complete(by="bob")
        Task.objects.filter(pk=task.pk).update(state="failed")
        client.post(address)
        assert (shown(task), shown(mine)) == ("failed", "due")

    def test_of_somebody_else_does_nothing(self, client):
        task = in_state("due")
        address = self.address(press(client, "cancel", [task]))
        response = staff(*EVERYTHING, name="eve").post(address, {"next": LIST}, follow=True)
        assert "moved on since" in messages_of(response)[0]
        assert shown(task) == "cancelled"

    def test_is_no_way_around_the_reason_of_another_action(self, client):
        task = in_state("failed")
        task.change_data({"n": 1}, by="ann", reason="r")
        client.post(f"{LIST}selected/complete/?undo={task.pk}")
        assert shown(task) == "failed"

    @pytest.mark.parametrize("undo", ["x", "1,2 OR 1", ",".join(["1"] * 501)])
    def test_with_ids_that_are_none_is_refused(self, client, undo):
        assert client.post(f"{LIST}selected/retry/?undo={undo}").status_code == 400


@pytest.mark.parametrize(
    "ids", [["1 OR 1=1"], ["x"], [":failed.1.1.0"], ["9" * 30], [str(n) for n in range(501)]]
)
def test_ids_that_are_none_or_too_many_are_refused(client, ids):
    address = f"{LIST}selected/retry/"
    assert client.post(address, {"ticked": ids}).status_code == 400


@pytest.mark.parametrize("name", ["change_data", "restore", "delete", "x"])
def test_what_is_no_action_for_many_answers_404(client, name):
    assert press(client, name, [in_state("failed")]).status_code == 404


def test_get_answers_405(client):
    assert client.get(f"{LIST}selected/retry/").status_code == 405


def test_the_page_costs_few_queries_however_many_are_ticked(client, django_assert_max_num_queries):
    ticks = ticked([in_state("failed") for _ in range(60)])
    address = f"{LIST}selected/retry/"
    with django_assert_max_num_queries(25):
        client.post(address, {"ticked": ticks})
    assert LogEntry.objects.count() == 60


def test_what_a_person_typed_is_text(client):
    response = press(client, "cancel", [in_state("due")], "<script>alert(1)</script>")
    assert "<script>alert" not in text_of(response)


class TestAnOldPage:
    def test_pressed_twice_it_acts_once_however_soon_the_tasks_are_through(self, client):
        task, other = in_state("completed"), in_state("completed")
        form = {"ticked": ticked([task, other])}
        assert messages_of(press(client, "run_again", [], **form))[0].startswith("2 run again. ")
        finish(Task.objects.get(pk=task.pk))
        (said,) = messages_of(press(client, "run_again", [], **form))
        assert said == (
            "0 run again, 2 skipped: 1 has moved on since this page was loaded, 1 is due. "
            "Meanwhile acted on by: ann."
        )
        assert TaskEvent.objects.filter(action="run_again").count() == 2
        assert [shown(task), shown(other)] == ["completed", "due"]

    def test_hears_who_was_faster_and_does_the_rest(self, client):
        tasks = [in_state("failed") for _ in range(3)]
        TaskEvent.objects.create(task=tasks[0], who="eve", action="x")  # long ago
        form = {"ticked": ticked(tasks)}
        tasks[1].retry(by="bob")
        finish(tasks[1], "failed")
        tasks[2].complete(by="zoe")
        (said,) = messages_of(press(client, "retry", [], **form))
        assert said.startswith(
            "1 retried, 2 skipped: 1 has moved on since this page was loaded, 1 is completed. "
            "Meanwhile acted on by: bob, zoe. "
        )
        assert [shown(task) for task in tasks] == ["due", "failed", "completed"]

    @pytest.mark.parametrize("version", ["", "failed", "failed.1.1." + "9" * 5000, "ä:b"])
    def test_a_box_that_does_not_say_what_was_seen_does_nothing(self, client, version):
        task = in_state("failed")
        (said,) = messages_of(press(client, "retry", [], ticked=[f"0{task.pk}:{version}"]))
        assert said == "0 retried, 1 skipped: 1 has moved on since this page was loaded."
        assert shown(task) == "failed"

    def test_the_boxes_of_the_list_say_what_was_seen(self, client):
        task = in_state("failed")
        assert f'name="ticked" value="{ticked([task])[0]}"' in text_of(client.get(LIST))


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_press_at_once_one_does_it_and_the_other_hears_who_was_first():
    tasks = [in_state("failed") for _ in range(3)]
    browsers = {name: staff(*EVERYTHING, name=name) for name in ("ann", "bob")}
    form = {"ticked": ticked(tasks)}
    with threads(2) as run:
        pressed = {
            name: run(lambda one: press(one, "retry", [], **form), browser)
            for name, browser in browsers.items()
        }
        said = {name: text_of(future.result(60)) for name, future in pressed.items()}
    (who,) = set(TaskEvent.objects.values_list("who", flat=True))
    assert TaskEvent.objects.count() == len(tasks)
    (loser,) = set(browsers) - {who}
    assert "3 retried." in said[who]
    assert f"0 retried, 3 skipped: 3 are due. Meanwhile acted on by: {who}." in said[loser]
