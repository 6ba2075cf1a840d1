"""The editor of data: nothing typed is lost, nothing hidden is shown, nothing unseen saved."""

import html
import json
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from tasks import enqueue, handler
from tasks.dashboard.versions import versions
from tasks.models import SearchKey, Task, TaskEvent
from tests.tasks.admin_rows import (
    EVERYTHING,
    LIST,
    button_of,
    in_state,
    messages_of,
    page_of,
    staff,
    text_of,
)
from tests.tasks.tools import start, state_of

pytestmark = pytest.mark.django_db

EDITABLE = ("waiting", "later", "due", "retrying", "failed", "cancelled")


@pytest.fixture
def client() -> Client:
    return staff(*EVERYTHING)


def editor_of(task: Task) -> str:
    return f"{LIST}{task.pk}/data/"


def fields(response) -> dict[str, str]:
    """What the form on the page would send, buttons left out."""
    page = text_of(response).partition('class="af-editor"')[2]
    found = {
        html.unescape(name): html.unescape(value)
        for name, value in re.findall(r'<input[^>]*name="([^"]+)"[^>]*value="([^"]*)"', page)
    }
    typed = re.search(r'<textarea id="af-data"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    if typed:
        found["data"] = html.unescape(typed[1])
    return found


def send(client, task, form, step="preview", **more):
    return client.post(button_of(task, "change_data"), {**form, "step": step, **more})


def save(client, task, data, *, step="save", reason="wrong address", **more):
    """Open, type, look, save."""
    form = fields(client.get(editor_of(task)))
    looked = send(client, task, form, data=json.dumps(data))
    return send(client, task, fields(looked), step, reason=reason, **more)


def data_of(task: Task) -> object:
    return Task.objects.get(pk=task.pk).data


@pytest.mark.parametrize("state", EDITABLE)
def test_the_difference_is_shown_before_anything_is_saved(client, state):
    task = in_state(state, data={"to": "a@example.com", "n": 1})
    form = fields(client.get(editor_of(task)))
    assert json.loads(form["data"]) == {"to": "a@example.com", "n": 1}
    looked = send(client, task, form, data='{"to": "b@example.com", "n": 1}')
    page = html.unescape(text_of(looked))
    assert "data.to" in page
    assert '"a@example.com"' in page
    assert '"b@example.com"' in page
    assert "data.n" not in page
    assert data_of(task) == {"to": "a@example.com", "n": 1}
    saved = send(client, task, fields(looked), "save", reason="typo")
    assert saved.url == page_of(task)
    assert data_of(task) == {"to": "b@example.com", "n": 1}
    assert Task.objects.get(pk=task.pk).shown_state == state
    event = TaskEvent.objects.filter(task=task).last()
    assert (event.who, event.action, event.reason) == ("ann", "change_data", "typo")
    assert event.before == {"to": "a@example.com", "n": 1}
    assert event.difference == [
        {"path": "data.to", "before": "a@example.com", "after": "b@example.com"}
    ]
    assert LogEntry.objects.get().change_message == "Given other data: typo"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_it_can_be_saved_and_retried_in_one_go(client, state):
    task = in_state(state, data={"n": 1})
    save(client, task, {"n": 2}, step="save_and_retry")
    assert Task.objects.get(pk=task.pk).shown_state == "due"
    assert data_of(task) == {"n": 2}
    assert TaskEvent.objects.filter(task=task).last().action == "change_and_retry"
    assert LogEntry.objects.get().change_message.startswith("Given other data and retried: ")
    assert "was given other data and retried." in text_of(client.get(page_of(task)))


def test_a_completed_task_takes_other_data_only_to_run_again(client):
    handler("shop.mail", repeat="may send the mail twice")(print)
    task = in_state("completed", "shop.mail", data={"n": 1})
    form = fields(client.get(editor_of(task)))
    looked = send(client, task, form, data='{"n": 2}')
    assert "may send the mail twice" in text_of(looked)
    assert 'value="save"' not in text_of(looked)
    refused = send(client, task, fields(looked), "save", reason="r")
    assert refused.status_code == 200
    assert data_of(task) == {"n": 1}
    send(client, task, fields(looked), "save_and_retry", reason="r")
    assert (Task.objects.get(pk=task.pk).shown_state, data_of(task)) == ("due", {"n": 2})


def test_a_running_task_is_not_edited(client):
    task = in_state("running", data={"n": 1})
    page = text_of(client.get(editor_of(task)))
    assert "its data cannot be changed now" in page
    assert "<textarea" not in page


def test_a_reason_is_required_and_nothing_typed_is_lost(client):
    task = in_state("due", data={"n": 1})
    again = save(client, task, {"n": 2}, reason="  ")
    assert "Please give a reason" in text_of(again)
    assert json.loads(fields(again)["data"]) == {"n": 2}
    assert data_of(task) == {"n": 1}
    send(client, task, fields(again), "save", reason="now")
    assert data_of(task) == {"n": 2}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ('{"a": 1,\n "b": oops}', "Line 2, column 7: this is not JSON"),
        ("", "Line 1, column 1"),
        ("{" * 100_000, "this is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": ' + "[" * 700 + "]" * 700 + "}", "nested too deep"),
        ("[1]", "must be a dictionary"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "JSON does not have"),
        ('{"a": 1, "a": 2}', "“a” stands twice"),
        ('{"a": "\\u0000"}', "NUL"),
        ('{"a": ' + "9" * 5000 + "}", "This is not JSON"),
    ],
    ids=range(11),
)
def test_what_is_no_data_is_explained_and_kept(client, typed, said):
    task = in_state("due", data={"n": 1})
    form = fields(client.get(editor_of(task)))
    again = send(client, task, form, data=typed)
    assert again.status_code == 200
    assert said in html.unescape(text_of(again))
    assert fields(again)["data"] == typed
    assert data_of(task) == {"n": 1}


def test_the_handlers_own_check_is_asked_and_what_it_says_is_shown(client):
    def check(data):
        if "@" not in data["to"]:
            raise ValueError("to must be an address")

    handler("shop.mail", validate=check)(print)
    task = in_state("failed", "shop.mail", data={"to": "a@b"})
    form = fields(client.get(editor_of(task)))
    assert "to must be an address" in text_of(send(client, task, form, data='{"to": "x"}'))
    assert "KeyError" in text_of(send(client, task, form, data="{}"))
    assert data_of(task) == {"to": "a@b"}
    save(client, task, {"to": "c@d"})
    assert data_of(task) == {"to": "c@d"}


def test_the_check_cannot_change_what_is_stored(client):
    handler("shop.mail", validate=lambda data: data.clear())(print)
    task = in_state("failed", "shop.mail", data={"n": 1})
    save(client, task, {"n": 2})
    assert data_of(task) == {"n": 2}


def test_what_was_edited_after_the_look_is_shown_once_more(client):
    task = in_state("due", data={"n": 1})
    form = fields(client.get(editor_of(task)))
    looked = fields(send(client, task, form, data='{"n": 2}'))
    again = send(client, task, looked, "save", reason="r", data='{"n": 3}')
    assert "please look once more" in text_of(again)
    assert data_of(task) == {"n": 1}
    send(client, task, fields(again), "save", reason="r")
    assert data_of(task) == {"n": 3}


def test_nothing_can_be_saved_unseen(client):
    task = in_state("due", data={"n": 1})
    form = fields(client.get(editor_of(task)))
    again = send(client, task, form, "save", reason="r", data='{"n": 2}')
    assert again.status_code == 200
    assert data_of(task) == {"n": 1}


def test_a_save_without_a_change_changes_nothing(client):
    task = in_state("due", data={"n": 1})
    form = fields(client.get(editor_of(task)))
    again = send(client, task, form, data='{ "n":1 }')
    assert "this is the data as it is stored" in text_of(again)
    assert not TaskEvent.objects.exists()


class TestStale:
    def test_somebody_elses_change_in_between_is_not_overwritten(self, client):
        task = in_state("failed", data={"n": 1})
        looked = fields(send(client, task, fields(client.get(editor_of(task))), data='{"n": 2}'))
        task.change_data({"n": 7}, by="bob", reason="mine")
        refused = send(client, task, looked, "save", reason="r")
        assert "bob changed the data of this" in text_of(refused)
        assert html.escape('{"n": 2}') in text_of(refused), "what was typed is lost"
        assert data_of(task) == {"n": 7}
        assert not LogEntry.objects.exists()

    def test_a_task_that_runs_meanwhile_keeps_its_data(self, client):
        task = in_state("due", data={"n": 1})
        looked = fields(send(client, task, fields(client.get(editor_of(task))), data='{"n": 2}'))
        start(task)
        assert "it is running" in text_of(send(client, task, looked, "save", reason="r"))
        assert (state_of(task), data_of(task)) == ("running", {"n": 1})

    def test_pressed_twice_it_is_saved_once(self, client):
        task = in_state("due", data={"n": 1})
        looked = fields(send(client, task, fields(client.get(editor_of(task))), data='{"n": 2}'))
        send(client, task, looked, "save", reason="r")
        again = send(client, task, looked, "save", reason="r")
        assert re.search(r"ann changed the data of this \d+ s ago", text_of(again))
        assert TaskEvent.objects.count() == 1

    def test_without_a_version_nothing_is_saved(self, client):
        task = in_state("due", data={"n": 1})
        looked = fields(send(client, task, fields(client.get(editor_of(task))), data='{"n": 2}'))
        send(client, task, {**looked, "version": ""}, "save", reason="r")
        assert data_of(task) == {"n": 1}


class TestSecrets:
    # In the order in which PostgreSQL keeps them: the placeholders are numbered by it.
    SECRET = {"to": "a", "url": "https://bob:geheim@example.com/", "password": "hunter2"}

    def test_are_placeholders_that_keep_the_stored_value(self, client):
        task = in_state("failed", data=self.SECRET)
        page = client.get(editor_of(task))
        shown = json.loads(fields(page)["data"])
        assert shown == {"to": "a", "url": "[redacted 1]", "password": "[redacted 2]"}
        saved = save(client, task, {**shown, "to": "b"})
        assert data_of(task) == {**self.SECRET, "to": "b"}
        event = TaskEvent.objects.get(task=task)
        assert event.before == self.SECRET
        for text in (
            text_of(page),
            json.dumps(event.difference),
            LogEntry.objects.get().change_message,
            text_of(client.get(saved.url)),
        ):
            assert "hunter2" not in text
            assert "geheim" not in text

    def test_a_new_one_can_be_typed_and_is_never_shown_in_the_difference(self, client):
        task = in_state("failed", data=self.SECRET)
        form = fields(client.get(editor_of(task)))
        typed = form["data"].replace("[redacted 2]", "tr0ub4dor")
        looked = send(client, task, form, data=typed)
        changes = text_of(looked).partition("What would change")[2].partition("<textarea")[0]
        assert "data.password" in changes
        assert "tr0ub4dor" not in changes
        send(client, task, fields(looked), "save", reason="r")
        assert data_of(task)["password"] == "tr0ub4dor"
        assert "tr0ub4dor" not in json.dumps(TaskEvent.objects.get().difference)

    def test_cannot_be_brought_to_light_under_another_key(self, client):
        task = in_state("failed", data=self.SECRET)
        form = fields(client.get(editor_of(task)))
        again = send(client, task, form, data='{"note": "[redacted 2]"}')
        assert "can only stay where it was" in text_of(again)
        assert "hunter2" not in text_of(again)

    def test_in_a_key_the_whole_is_one_placeholder(self, client):
        data = {"n": 1, "down": {"redis://:geheim@cache/0": "timeout"}}
        task = in_state("failed", data=data)
        page = client.get(editor_of(task))
        shown = json.loads(fields(page)["data"])
        assert shown == {"n": 1, "down": "[redacted 1]"}
        saved = save(client, task, {**shown, "n": 2})
        assert data_of(task) == {**data, "n": 2}
        for answer in (page, client.get(saved.url)):
            assert "geheim" not in text_of(answer)

    def test_are_not_told_by_the_handlers_check(self, client):
        def check(data):
            raise ValueError(f"bad: {data['password']} for {data['to']}")

        handler("shop.mail", validate=check)(print)
        task = in_state("failed", "shop.mail", data=self.SECRET)
        form = fields(client.get(editor_of(task)))
        typed = form["data"].replace('"to": "a"', '"to": "b"')
        page = text_of(send(client, task, form, data=typed))
        assert "[redacted] for b" in page
        assert "hunter2" not in page


class TestRights:
    @pytest.mark.parametrize("lost", ["change_task_data", "view_task_data", "view_task"])
    def test_the_editor_needs_the_right_and_seeing_data(self, lost):
        client = staff(*(right for right in EVERYTHING if right != lost))
        task = in_state("failed", data={"n": 1})
        assert client.get(editor_of(task)).status_code == 403
        assert send(client, task, {"data": "{}"}).status_code == 403

    def test_who_may_not_retry_saves_without_retrying(self):
        client = staff("view_task", "view_task_data", "change_task_data")
        task = in_state("failed", data={"n": 1})
        assert save(client, task, {"n": 2}, step="save_and_retry").status_code == 403
        assert data_of(task) == {"n": 1}
        save(client, task, {"n": 2})
        assert (state_of(task), data_of(task)) == ("failed", {"n": 2})

    def test_a_task_outside_the_scope_answers_404(self, client, settings):
        task = in_state("failed", data={"n": 1})
        settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.none()}
        assert client.get(editor_of(task)).status_code == 404
        assert send(client, task, {"data": "{}"}).status_code == 404

    def test_what_the_host_forbids_answers_403(self, client, settings):
        task = in_state("failed", data={"n": 1})
        settings.AFTERSAVE = {"MAY": lambda user, action, task: action != "change_data"}
        assert client.get(editor_of(task)).status_code == 403
        assert send(client, task, {"data": "{}"}).status_code == 403

    def test_nobody_edits_aftersaves_own_tasks(self, client):
        task = in_state("due", "aftersave.bulk")
        assert client.get(editor_of(task)).status_code == 403

    def test_get_of_the_post_address_answers_405(self, client):
        assert client.get(button_of(in_state("due"), "change_data")).status_code == 405


class TestRestore:
    def changed(self, client, state="failed") -> Task:
        task = in_state(state, data={"n": 1, "password": "hunter2"})
        task.change_data({"n": 2, "password": "new"}, by="bob", reason="r")
        return task

    def address(self, task: Task) -> str:
        return f"{button_of(task, 'restore')}?event={task.events.first().pk}"

    def test_the_old_data_comes_back_with_an_event_of_its_own(self, client):
        task = self.changed(client)
        version = versions([task])[task.pk]
        response = client.post(self.address(task), {"version": version}, follow=True)
        assert data_of(task) == {"n": 1, "password": "hunter2"}
        last = task.events.last()
        assert (last.action, last.who) == ("restore", "ann")
        assert last.before == {"n": 2, "password": "new"}
        assert "hunter2" not in json.dumps(last.difference)
        assert "was given its old data back" in messages_of(response)[0]
        assert LogEntry.objects.count() == 1

    def test_stands_in_the_message_after_a_change(self, client):
        task = in_state("failed", data={"n": 1})
        saved = save(client, task, {"n": 2})
        (message,) = messages_of(client.get(saved.url))
        found = re.search(r'formaction="([^"]+)" name="version" value="([^"]+)"', message)
        client.post(found[1], {"version": found[2]})
        assert data_of(task) == {"n": 1}

    def test_pressed_twice_it_restores_once(self, client):
        task = self.changed(client)
        form = {"version": versions([task])[task.pk]}
        client.post(self.address(task), form)
        response = client.post(self.address(task), form, follow=True)
        assert re.search(r"ann gave this its old data back \d+ s ago", messages_of(response)[-1])
        assert task.events.count() == 2

    def test_what_is_back_already_is_not_restored_once_more(self, client):
        task = self.changed(client)
        address = self.address(task)
        for _again in range(2):
            task.refresh_from_db()
            form = {"version": versions([task])[task.pk]}
            response = client.post(address, form, follow=True)
        assert "nothing to restore" in messages_of(response)[-1]
        assert task.events.count() == 2
        assert LogEntry.objects.count() == 1

    @pytest.mark.parametrize("event", ["", "x", "999999", "9" * 40])
    def test_an_event_that_is_none_of_the_task_answers_404(self, client, event):
        task = self.changed(client)
        address = f"{button_of(task, 'restore')}?event={event}"
        assert client.post(address).status_code == 404

    def test_an_event_of_another_task_answers_404(self, client):
        mine, other = self.changed(client), self.changed(client)
        address = f"{button_of(mine, 'restore')}?event={other.events.first().pk}"
        assert client.post(address).status_code == 404

    def test_an_event_without_data_restores_nothing(self, client):
        task = in_state("cancelled", data={"n": 1})
        form = {"version": versions([task])[task.pk]}
        response = client.post(self.address(task), form, follow=True)
        assert "nothing to restore" in messages_of(response)[0]

    @pytest.mark.parametrize("state", ["running", "completed"])
    def test_is_refused_where_data_cannot_change(self, client, state):
        task = in_state(state, data={"n": 1})
        TaskEvent.objects.create(task=task, action="change_data", before={"n": 0})
        form = {"version": versions([task])[task.pk]}
        response = client.post(self.address(task), form, follow=True)
        assert "it cannot be given its old data back" in messages_of(response)[0]
        assert data_of(task) == {"n": 1}


def test_what_is_found_by_its_data_is_found_by_the_new_data(client):
    handler("shop.mail", search=["to"])(print)
    task = enqueue("shop.mail", {"to": "ann"})
    assert SearchKey.objects.get(task=task).value == "ann"
    save(client, task, {"to": "bob"})
    assert SearchKey.objects.get(task=task).value == "bob"


def test_data_of_a_megabyte_is_edited_in_code_and_the_page_says_so(client):
    task = in_state("due", data={"text": "x" * 700_000})
    page = text_of(client.get(editor_of(task)))
    assert "too long to be edited on a page" in page
    assert len(page) < 100_000


def test_markup_in_data_is_text(client):
    task = in_state("due", data={"a": "</textarea><script>alert(1)</script>"})
    page = client.get(editor_of(task))
    assert "<script>alert" not in text_of(page)
    looked = send(client, task, fields(page), data='{"a": "<img src=x onerror=alert(1)>"}')
    assert "<img" not in text_of(looked)
    assert "<script>alert" not in text_of(looked)


def test_a_check_that_repeats_a_hidden_value_at_length_shows_no_part_of_it(client):
    def check(data):
        raise ValueError("x" * 280 + data["password"])

    handler("shop.checked", validate=check)(print)
    task = in_state("failed", "shop.checked", data={"password": "hunter2" * 9, "n": 1})
    form = fields(client.get(editor_of(task)))
    looked = send(client, task, form, data=form["data"].replace('"n": 1', '"n": 2'))
    assert "The check of this task refuses it" in text_of(looked)
    assert "hunter" not in text_of(looked)
