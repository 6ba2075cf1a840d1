"""The buttons of a task: who may press them, what they do, and what they say afterwards."""

import re

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.test import Client

from tasks import actions, enqueue
from tasks.dashboard.buttons import BUTTONS
from tasks.dashboard.pressing import way_back
from tasks.dashboard.versions import versions
from tasks.models import State, Task, TaskEvent
from tests.tasks.admin_rows import (
    EVERYTHING,
    button_of,
    in_state,
    messages_of,
    page_of,
    staff,
    text_of,
)
from tests.tasks.dashboard.test_buttons import viewer
from tests.tasks.tools import start, state_of, threads

pytestmark = pytest.mark.django_db

SHOWN_STATES = (
    "waiting",
    "later",
    "due",
    "running",
    "retrying",
    "failed",
    "completed",
    "cancelled",
)
#: Where a button is offered, and what the task is afterwards.
FROM = {
    "retry": ("failed", "cancelled"),
    "run_again": ("completed",),
    "run_now": ("later", "retrying"),
    "cancel": ("waiting", "later", "due", "retrying"),
    "complete": ("failed", "cancelled"),
}
AFTER = {
    "retry": "due",
    "run_again": "due",
    "run_now": "due",
    "cancel": "cancelled",
    "complete": "completed",
}
RIGHT = {
    "retry": "retry_task",
    "run_again": "retry_task",
    "run_now": "run_task_now",
    "cancel": "cancel_task",
    "complete": "complete_task",
}
NEED_A_REASON = ("run_again", "cancel", "complete")


@pytest.fixture
def client() -> Client:
    return staff(*EVERYTHING)


def version_of(task: Task) -> str:
    return versions([Task.objects.get(pk=task.pk)])[task.pk]


def press(client: Client, task: Task, name: str, **form: str):
    form = {"version": version_of(task), f"reason-{name}-{task.pk}": "because", **form}
    return client.post(button_of(task, name), form, follow=True)


def shown(task: Task) -> str:
    return Task.objects.get(pk=task.pk).shown_state


@pytest.mark.parametrize(
    ("name", "state"), [(name, state) for name, states in FROM.items() for state in states]
)
def test_a_button_acts_once_and_tells_the_admin_log_who_and_why(client, name, state):
    task = in_state(state)
    TaskEvent.objects.all().delete()
    response = press(client, task, name)
    assert response.redirect_chain == [(page_of(task), 302)]
    assert shown(task) == AFTER[name]
    entry = LogEntry.objects.get()
    assert (entry.user.username, entry.action_flag) == ("ann", CHANGE)
    assert entry.object_id == str(task.pk)
    assert "because" in entry.change_message
    event = TaskEvent.objects.get(task=task)
    assert (event.who, event.action, event.reason) == ("ann", name, "because")
    (message,) = messages_of(response)
    assert f'<a href="{page_of(task)}">shop.do #{task.pk}</a> was' in message


@pytest.mark.parametrize(
    ("name", "state"),
    [(name, state) for name in FROM for state in SHOWN_STATES if state not in FROM[name]],
)
def test_a_state_it_does_not_fit_becomes_a_message_and_changes_nothing(client, name, state):
    task = in_state(state)
    before = Task.objects.filter(pk=task.pk).values().get()
    TaskEvent.objects.all().delete()
    response = press(client, task, name)
    assert "it cannot be" in messages_of(response)[0]
    assert Task.objects.filter(pk=task.pk).values().get() == before
    assert not LogEntry.objects.exists()
    assert not TaskEvent.objects.exists()


@pytest.mark.parametrize("name", FROM)
class TestEachButton:
    def test_pressed_twice_it_acts_once(self, client, name):
        task = in_state(FROM[name][0])
        version = version_of(task)
        press(client, task, name, version=version)
        response = press(client, task, name, version=version)
        assert TaskEvent.objects.filter(task=task, action=name).count() == 1
        assert LogEntry.objects.count() == 1
        assert messages_of(response)[-1].startswith("ann ")
        assert "Nothing was done" in messages_of(response)[-1]

    def test_get_answers_405_and_changes_nothing(self, client, name):
        task = in_state(FROM[name][0])
        assert client.get(button_of(task, name)).status_code == 405
        assert shown(task) == FROM[name][0]

    def test_who_lacks_the_right_gets_403(self, name):
        task = in_state(FROM[name][0])
        others = [right for right in EVERYTHING if right != RIGHT[name]]
        assert press(staff(*others), task, name).status_code == 403
        assert shown(task) == FROM[name][0]

    def test_the_right_without_seeing_tasks_is_not_enough(self, name):
        task = in_state(FROM[name][0])
        assert press(staff(RIGHT[name]), task, name).status_code == 403

    def test_the_two_rights_together_are_enough(self, name):
        task = in_state(FROM[name][0])
        press(staff("view_task", RIGHT[name]), task, name)
        assert shown(task) == AFTER[name]

    def test_without_a_csrf_token_nothing_happens(self, client, name):
        task = in_state(FROM[name][0])
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = client.cookies
        assert press(strict, task, name).status_code == 403
        assert shown(task) == FROM[name][0]

    def test_a_task_that_is_gone_answers_404(self, client, name):
        address = button_of(in_state(FROM[name][0]), name)
        Task.objects.all().delete()
        assert client.post(address, {"reason": "r"}).status_code == 404

    def test_a_task_outside_the_scope_answers_404(self, client, name, settings):
        task = in_state(FROM[name][0])
        settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.exclude(type="shop")}
        assert press(client, task, name).status_code == 404
        assert shown(task) == FROM[name][0]

    def test_what_the_host_forbids_answers_403(self, client, name, settings):
        task = in_state(FROM[name][0])
        settings.AFTERSAVE = {"MAY": lambda user, action, task: action != name}
        assert press(client, task, name).status_code == 403
        assert shown(task) == FROM[name][0]

    def test_it_goes_back_to_the_page_it_was_pressed_on_and_nowhere_else(self, client, name):
        task = in_state(FROM[name][0])
        home = client.post(button_of(task, name), {"next": "/admin/tasks/task/?q=x"})
        assert home.url == "/admin/tasks/task/?q=x"
        away = client.post(button_of(task, name), {"next": "https://evil.example/"})
        assert away.url == page_of(task)


@pytest.mark.parametrize("name", NEED_A_REASON)
@pytest.mark.parametrize("reason", ["", "   "])
def test_where_a_reason_is_required_nothing_is_done_without_one(client, name, reason):
    task = in_state(FROM[name][0])
    response = press(client, task, name, **{f"reason-{name}-{task.pk}": reason})
    assert "please give a reason" in messages_of(response)[0]
    assert shown(task) == FROM[name][0]


@pytest.mark.parametrize("name", ["retry", "run_now"])
def test_where_a_reason_is_optional_none_is_needed(client, name):
    task = in_state(FROM[name][0])
    press(client, task, name, **{f"reason-{name}-{task.pk}": ""})
    assert shown(task) == "due"
    assert LogEntry.objects.get().change_message in ("Retried.", "Made due.")


def test_the_reason_typed_beside_another_button_is_not_taken(client):
    task, other = in_state("due"), in_state("due")
    form = {f"reason-cancel-{other.pk}": "the other", f"reason-complete-{task.pk}": "no"}
    response = client.post(button_of(task, "cancel"), form, follow=True)
    assert "please give a reason" in messages_of(response)[0]


def test_an_old_page_hears_who_was_faster_and_what_the_task_does_now(client):
    task = in_state("failed")
    version = version_of(task)
    task.retry(by="bob")
    start(task)
    (message,) = messages_of(press(client, task, "retry", version=version))
    assert re.match(r"bob retried this \d+ s ago; it is running\.", message)
    assert state_of(task) == "running"


def test_an_old_page_hears_when_nobody_but_a_worker_moved_the_task(client):
    task = in_state("due")
    version = version_of(task)
    start(task)
    (message,) = messages_of(press(client, task, "cancel", version=version))
    assert "has moved on since this page was loaded" in message


def test_a_unique_key_taken_by_another_becomes_a_message(client):
    task = in_state("failed", unique_key="k")
    other = enqueue("shop.do", unique_key="k")
    (message,) = messages_of(press(client, task, "retry"))
    assert f"task #{other.pk} has the same unique key" in message
    assert state_of(task) == "failed"


def test_a_secret_in_the_reason_stays_out_of_the_admin_log(client):
    task = in_state("failed")
    press(client, task, "retry", **{f"reason-retry-{task.pk}": "password=hunter2 was wrong"})
    assert "hunter2" not in LogEntry.objects.get().change_message


def test_an_action_and_its_line_in_the_log_come_together_or_not_at_all(client, monkeypatch):
    task = in_state("failed")

    def broken(*args, **kwargs):
        raise RuntimeError("no log today")

    monkeypatch.setattr(type(LogEntry.objects), "log_actions", broken)
    client.raise_request_exception = False
    assert press(client, task, "retry").status_code == 500
    assert state_of(task) == "failed"


BACK = {"retry": "cancel", "cancel": "retry", "complete": "run_again"}


def way_back_in(message: str) -> tuple[str, str]:
    found = re.search(r'formaction="([^"]+)" name="version" value="([^"]+)"', message)
    assert found, message
    return found[1], found[2]


class TestTheWayBack:
    @pytest.mark.parametrize(("name", "back"), BACK.items())
    def test_stands_in_the_message_and_takes_it_back_without_another_reason(
        self, client, name, back
    ):
        task = in_state(FROM[name][-1])
        (message,) = messages_of(press(client, task, name))
        address, version = way_back_in(message)
        assert 'form="af-form"' in message
        assert f"/{back}/" in address
        client.post(address, {"version": version})
        assert shown(task) == AFTER[back]
        last = TaskEvent.objects.filter(task=task).last()
        assert (last.action, last.who) == (back, "ann")
        assert last.reason == ("" if back == "retry" else "Taken back.")

    def test_is_not_offered_to_who_may_not_press_it(self):
        task = in_state("failed")
        (message,) = messages_of(press(staff("view_task", "retry_task"), task, "retry"))
        assert "was retried" in message
        assert "<button" not in message

    @pytest.mark.parametrize("name", ["run_now", "run_again"])
    def test_is_not_offered_where_there_is_none(self, client, name):
        (message,) = messages_of(press(client, in_state(FROM[name][0]), name))
        assert "<button" not in message

    def test_is_not_offered_once_the_task_is_deleted(self):
        task = in_state("failed")
        event = actions.retry(task, by="ann")
        Task.objects.all().delete()
        assert way_back(viewer(*EVERYTHING), BUTTONS["retry"], task, event) == ""

    def test_does_nothing_once_a_worker_has_the_task(self, client):
        task = in_state("failed")
        address, version = way_back_in(messages_of(press(client, task, "retry"))[0])
        start(Task.objects.get(pk=task.pk))
        response = client.post(address, {"version": version}, follow=True)
        assert "it is running" in messages_of(response)[0]
        assert state_of(task) == "running"

    def test_somebody_else_must_give_a_reason(self, client):
        task = in_state("failed")
        address, version = way_back_in(messages_of(press(client, task, "retry"))[0])
        eve = staff(*EVERYTHING, name="eve")
        response = eve.post(address, {"version": version}, follow=True)
        assert "please give a reason" in messages_of(response)[0]

    def test_what_does_not_undo_the_last_deed_needs_a_reason(self, client):
        task = in_state("due")
        task.cancel(by="ann")
        undo = task.events.last().pk
        address = f"{button_of(task, 'complete')}?undo={undo}"
        response = client.post(address, follow=True)
        assert "please give a reason" in messages_of(response)[0]


@pytest.mark.django_db(transaction=True)
def test_of_two_people_who_press_retry_at_once_one_retries_and_the_other_hears_who_was_first():
    task = in_state("failed")
    browsers = {name: staff(*EVERYTHING, name=name) for name in ("ann", "bob")}
    version = version_of(task)
    with threads(2) as run:
        pressed = {
            name: run(lambda browser: press(browser, task, "retry", version=version), browser)
            for name, browser in browsers.items()
        }
        said = {name: text_of(future.result(60)) for name, future in pressed.items()}
    event = TaskEvent.objects.get(task=task)
    assert LogEntry.objects.get().user.username == event.who
    (loser,) = set(browsers) - {event.who}
    assert "was retried" in said[event.who]
    told = rf"{event.who} retried this \d+ s ago; it is due\. Nothing was done\."
    assert re.search(told, said[loser])
    task.refresh_from_db()
    assert (task.state, task.max_attempts) == (State.SCHEDULED, 1 + 5)


def test_every_button_has_words_for_what_was_done():
    for button in BUTTONS.values():
        assert button.did % {"who": "ann", "ago": "now"}
        assert str(button.label)
        assert str(button.done)


def test_staff_of_the_site_alone_do_not_press():
    User.objects.create_user("customer", password="x")
    customer = Client()
    customer.force_login(User.objects.get(username="customer"))
    task = in_state("failed")
    response = customer.post(button_of(task, "retry"))
    assert response.status_code == 302
    assert "/login/" in response.url
    assert state_of(task) == "failed"


@pytest.mark.parametrize("name", FROM)
def test_a_button_that_does_not_say_what_was_seen_does_nothing(client, name):
    task = in_state(FROM[name][0])
    before = TaskEvent.objects.count()
    reason = {f"reason-{name}-{task.pk}": "because"}
    (said,) = messages_of(client.post(button_of(task, name), reason, follow=True))
    assert "othing was done" in said
    assert shown(task) == FROM[name][0]
    assert TaskEvent.objects.count() == before
