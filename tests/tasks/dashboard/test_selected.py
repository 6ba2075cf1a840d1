"""Buttons for the ticked rows of the list."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from tasks import enqueue
from tasks.models import Task, TaskEvent
from tests.tasks.admin_rows import EVERYTHING, LIST, in_state, messages_of, staff, text_of
from tests.tasks.tools import finish

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


def press(client, name, tasks, reason="because", **form):
    ticked = {"ticked": [task.pk for task in tasks], f"reason-{name}-selected": reason}
    return client.post(f"{LIST}selected/{name}/", {**ticked, "next": LIST, **form}, follow=True)


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
        form = {"ticked": [other.pk], "next": LIST}
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


@pytest.mark.parametrize("ids", [["1 OR 1=1"], ["x"], ["9" * 30], [str(n) for n in range(501)]])
def test_ids_that_are_none_or_too_many_are_refused(client, ids):
    address = f"{LIST}selected/retry/"
    assert client.post(address, {"ticked": ids}).status_code == 400


@pytest.mark.parametrize("name", ["change_data", "restore", "delete", "x"])
def test_what_is_no_action_for_many_answers_404(client, name):
    assert press(client, name, [in_state("failed")]).status_code == 404


def test_get_answers_405(client):
    assert client.get(f"{LIST}selected/retry/").status_code == 405


def test_the_page_costs_few_queries_however_many_are_ticked(client, django_assert_max_num_queries):
    tasks = [in_state("failed") for _ in range(60)]
    address = f"{LIST}selected/retry/"
    with django_assert_max_num_queries(25):
        client.post(address, {"ticked": [task.pk for task in tasks]})
    assert LogEntry.objects.count() == 60


def test_what_a_person_typed_is_text(client):
    response = press(client, "cancel", [in_state("due")], "<script>alert(1)</script>")
    assert "<script>alert" not in text_of(response)
