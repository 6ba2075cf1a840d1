"""Retry, Cancel and Mark as done in the admin: on a task's page, and for ticked rows."""

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.test import Client

from tasks import enqueue
from tasks.models import State, Task, TaskEvent
from tests.tasks.admin_rows import (
    EVERYTHING,
    LIST,
    button_of,
    in_state,
    messages_of,
    page_of,
    staff,
    text_of,
    version_on,
)
from tests.tasks.tools import start, state_of, threads

pytestmark = pytest.mark.django_db

BUTTONS = {"retry": "failed", "cancel": "due", "complete": "failed"}
AFTER = {"retry": "scheduled", "cancel": "cancelled", "complete": "completed"}


@pytest.fixture
def client():
    return staff(*EVERYTHING)


def press(client, task, name, **form):
    return client.post(button_of(task, name), {"reason": "because", **form}, follow=True)


@pytest.mark.parametrize("name", BUTTONS)
class TestEachButton:
    def test_it_acts_once_and_tells_the_admin_log_who_and_why(self, client, name):
        task = in_state(BUTTONS[name])
        response = press(client, task, name, version=version_on(client, task))
        assert response.redirect_chain == [(page_of(task), 302)]
        assert state_of(task) == AFTER[name]
        entry = LogEntry.objects.get()
        assert (entry.user.username, entry.action_flag) == ("ann", CHANGE)
        assert entry.object_id == str(task.pk)
        assert "because" in entry.change_message
        event = TaskEvent.objects.get(task=task)
        assert (event.who, event.action, event.reason) == ("ann", name, "because")
        (message,) = messages_of(response)
        assert f'<a href="{page_of(task)}">shop.do #{task.pk}</a> was' in message

    def test_pressed_twice_it_acts_once(self, client, name):
        task = in_state(BUTTONS[name])
        version = version_on(client, task)
        press(client, task, name, version=version)
        response = press(client, task, name, version=version)
        assert TaskEvent.objects.filter(task=task).count() == 1
        assert LogEntry.objects.count() == 1
        assert "ann" in messages_of(response)[-1]
        assert "Nothing was done" in messages_of(response)[-1]

    def test_get_answers_405_and_changes_nothing(self, client, name):
        task = in_state(BUTTONS[name])
        assert client.get(button_of(task, name)).status_code == 405
        assert not TaskEvent.objects.exists()

    def test_who_lacks_the_right_sees_no_button_and_gets_403(self, name):
        task = in_state(BUTTONS[name])
        others = [right for right in EVERYTHING if right != f"{name}_task"]
        client = staff(*others)
        assert f"/{name}/" not in text_of(client.get(page_of(task)))
        assert f"{name}_selected" not in text_of(client.get(LIST))
        assert press(client, task, name).status_code == 403
        ticked = {"action": f"{name}_selected", "_selected_action": task.pk, "index": 0}
        assert client.post(LIST, {**ticked, "reason": "r"}).status_code == 403
        assert state_of(task) == task.state

    def test_the_right_without_seeing_tasks_is_not_enough(self, name):
        task = in_state(BUTTONS[name])
        assert press(staff(f"{name}_task"), task, name).status_code == 403

    def test_without_a_csrf_token_nothing_happens(self, client, name):
        task = in_state(BUTTONS[name])
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = client.cookies
        assert press(strict, task, name).status_code == 403
        assert state_of(task) == task.state

    def test_a_task_that_is_gone_answers_404(self, client, name):
        assert client.post(f"{LIST}999999/{name}/", {"reason": "r"}).status_code == 404

    def test_a_state_it_does_not_fit_becomes_a_message(self, client, name):
        task = in_state("running")
        response = press(client, task, name)
        assert "is running: it cannot be" in messages_of(response)[0]
        assert state_of(task) == "running"
        assert not LogEntry.objects.exists()


def test_seeing_alone_gives_no_button_and_no_action():
    client = staff("view_task", "view_task_data")
    page = text_of(client.get(page_of(in_state("failed"))))
    assert 'name="version"' not in page
    assert 'name="action"' not in text_of(client.get(LIST))


@pytest.mark.parametrize("name", ["cancel", "complete"])
@pytest.mark.parametrize("reason", ["", "   "])
def test_cancel_and_mark_as_done_need_a_reason(client, name, reason):
    task = in_state(BUTTONS[name])
    response = press(client, task, name, reason=reason)
    assert "please give a reason" in messages_of(response)[0]
    assert state_of(task) == task.state


def test_retry_needs_no_reason(client):
    task = in_state("failed")
    press(client, task, "retry", reason="")
    assert state_of(task) == "scheduled"
    assert LogEntry.objects.get().change_message == "Retried."


def test_an_old_page_hears_who_was_faster_and_what_the_task_does_now(client):
    task = in_state("failed")
    version = version_on(client, task)
    task.retry(by="bob")
    start(task)
    response = press(client, task, "retry", version=version)
    (message,) = messages_of(response)
    assert message.startswith("bob retried this 0 s ago; it is running.")
    assert state_of(task) == "running"


def test_an_old_page_hears_when_nobody_but_a_worker_moved_the_task(client):
    task = in_state("due")
    version = version_on(client, task)
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
    press(client, in_state("failed"), "retry", reason="password=hunter2 was wrong")
    assert "hunter2" not in LogEntry.objects.get().change_message


def test_an_action_and_its_line_in_the_log_come_together_or_not_at_all(client, monkeypatch):
    task = in_state("failed")

    def broken(*args, **kwargs):
        raise RuntimeError("no log today")

    monkeypatch.setattr(type(LogEntry.objects), "log_actions", broken)
    client.raise_request_exception = False
    assert press(client, task, "retry").status_code == 500
    assert state_of(task) == "failed"


def test_the_page_says_what_waits_before_cancel_and_mark_as_done(client):
    failed = enqueue("shop.do")
    enqueue("shop.after", after=[failed])
    assert "1 task waits for this and is cancelled too" in text_of(client.get(page_of(failed)))
    Task.objects.filter(pk=failed.pk).update(
        state="failed", due=False, finished_at=failed.created_at
    )
    assert "1 task waits for this and goes on." in text_of(client.get(page_of(failed)))


@pytest.mark.django_db(transaction=True)
def test_two_people_at_the_same_moment_retry_once():
    task = in_state("failed")
    version = version_on(staff(*EVERYTHING, name="eve"), task)
    browsers = [staff(*EVERYTHING, name=name) for name in ("ann", "bob")]
    with threads(2) as run:
        pressed = [
            run(lambda who: press(who, task, "retry", version=version), browser)
            for browser in browsers
        ]
        pages = [text_of(future.result()) for future in pressed]
    assert TaskEvent.objects.filter(task=task).count() == 1
    assert LogEntry.objects.count() == 1
    assert sorted("was retried" in page for page in pages) == [False, True]
    assert sorted("Nothing was done" in page for page in pages) == [False, True]


class TestTickedRows:
    def post(self, client, name, tasks, **form):
        ticked = {"action": f"{name}_selected", "_selected_action": [task.pk for task in tasks]}
        return client.post(LIST, {**ticked, **form}, follow=True)

    def test_retry_acts_on_what_fits_and_counts_the_rest(self, client):
        tasks = [in_state(state) for state in ("failed", "cancelled", "running", "due", "failed")]
        response = self.post(client, "retry", tasks, index=0)
        assert messages_of(response) == ["3 retried, 2 skipped: due, running."]
        assert LogEntry.objects.count() == 3

    @pytest.mark.parametrize("name", ["cancel", "complete"])
    def test_a_reason_is_asked_first_where_one_is_needed(self, client, name):
        fits, other = in_state(BUTTONS[name]), in_state("running")
        page = self.post(client, name, [fits, other], index=0)
        assert "Why? Others will read it." in text_of(page)
        assert f'href="{page_of(fits)}"' in text_of(page)
        assert "1 ticked task cannot be" in text_of(page)
        assert state_of(fits) == fits.state
        again = self.post(client, name, [fits, other], reason=" ")
        assert "Please give a reason." in text_of(again)
        response = self.post(client, name, [fits, other], reason="for all")
        assert state_of(fits) == AFTER[name]
        assert messages_of(response)[0].endswith("1 skipped: running.")
        assert TaskEvent.objects.get().reason == "for all"

    def test_the_reason_is_asked_under_a_filter_that_stays(self, client):
        task = in_state("failed")
        ticked = {"action": "complete_selected", "_selected_action": task.pk}
        address = f"{LIST}?state=failed"
        assert 'href="/admin/tasks/task/?state=failed"' in text_of(
            client.post(address, {**ticked, "index": 0})
        )
        response = client.post(address, {**ticked, "reason": "r"})
        assert response.url == address
        assert state_of(task) == "completed"

    def test_a_row_that_moved_on_under_a_filter_is_counted(self, client):
        task = in_state("due")
        ticked = {"action": "retry_selected", "_selected_action": task.pk, "index": 0}
        response = client.post(f"{LIST}?state=failed", ticked, follow=True)
        assert messages_of(response) == ["0 retried, 1 skipped: due."]

    def test_nothing_beyond_the_ticked_rows_is_touched(self, client):
        ticked, other = in_state("failed"), in_state("failed")
        self.post(client, "retry", [ticked], index=0, select_across=1)
        assert state_of(ticked) == State.SCHEDULED
        assert state_of(other) == State.FAILED

    def test_ids_that_are_none_are_refused(self, client):
        wrong = {"action": "retry_selected", "_selected_action": "1 OR 1=1", "index": 0}
        assert client.post(LIST, wrong).status_code == 400
