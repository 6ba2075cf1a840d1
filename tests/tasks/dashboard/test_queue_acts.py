"""Pause and Resume of a queue on the pages."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.template.loader import render_to_string
from django.test import Client

from tasks import enqueue
from tasks.dashboard.queue_buttons import queue_buttons
from tasks.models import Queue, TaskEvent
from tasks.queues import pause, resume
from tests.tasks.admin_rows import EVERYTHING, LIST, messages_of, staff
from tests.tasks.dashboard.test_buttons import viewer

pytestmark = pytest.mark.django_db


@pytest.fixture
def client() -> Client:
    return staff(*EVERYTHING)


@pytest.fixture(autouse=True)
def queue() -> Queue:
    return Queue.objects.create(name="crm")


def address(name: str, queue: str = "crm") -> str:
    return f"{LIST}queue/{queue}/{name}/"


def press(client: Client, name: str, queue: str = "crm", **form: str):
    form = {f"reason-{name}-{queue}": "because", **form}
    return client.post(address(name, queue), {"next": LIST, **form}, follow=True)


def is_paused(name: str = "crm") -> bool:
    return Queue.objects.filter(pk=name, paused_at__isnull=False).exists()


def test_pausing_is_said_logged_and_can_be_taken_back_from_the_message(client):
    response = press(client, "pause")
    assert response.redirect_chain == [(LIST, 302)]
    assert is_paused()
    event = TaskEvent.objects.get()
    assert (event.queue, event.action, event.who, event.reason) == (
        "crm",
        "pause",
        "ann",
        "because",
    )
    entry = LogEntry.objects.get()
    assert (entry.object_repr, entry.change_message) == ("crm", "Paused: because")
    (message,) = messages_of(response)
    found = re.search(r'formaction="([^"]+)" name="version" value="([^"]+)"', message)
    client.post(found[1], {"version": found[2]})
    assert not is_paused()
    assert LogEntry.objects.count() == 2


@pytest.mark.parametrize("reason", ["", "  "])
def test_pausing_needs_a_reason(client, reason):
    response = press(client, "pause", **{"reason-pause-crm": reason})
    assert "please give a reason" in messages_of(response)[0]
    assert not is_paused()


def test_resuming_needs_none(client):
    pause("default", "crm")
    press(client, "resume", **{"reason-resume-crm": ""})
    assert not is_paused()
    assert LogEntry.objects.get().change_message == "Resumed."


def test_paused_twice_it_is_paused_once_and_the_second_hears_who_was_first(client):
    pause("default", "crm", by="bob", reason="mine")
    response = press(client, "pause")
    (message,) = messages_of(response)
    assert re.fullmatch(r"bob paused the queue crm \d+ s ago\. Nothing was done\.", message)
    assert TaskEvent.objects.count() == 1
    assert not LogEntry.objects.exists()


def test_resumed_twice_the_second_hears_who_was_first(client):
    pause("default", "crm")
    resume("default", "crm", by="bob")
    response = press(client, "resume")
    (message,) = messages_of(response)
    assert re.fullmatch(r"bob resumed the queue crm \d+ s ago\. Nothing was done\.", message)


def test_an_old_page_does_not_resume_what_was_paused_anew(client):
    pause("default", "crm", by="bob")
    button = queue_buttons(viewer("view_task", "pause_queue"), [Queue.objects.get()])["crm"]
    resume("default", "crm", by="bob")
    pause("default", "crm", by="eve", reason="now really")
    response = press(client, "resume", version=button.version)
    assert messages_of(response)[0].startswith("eve paused the queue crm")
    assert is_paused()


def test_an_old_page_of_a_task_does_not_resume_what_was_paused_anew(client):
    task = enqueue("shop.do", queue="crm")
    pause("default", "crm", by="bob")
    (button,) = client.get(f"{LIST}{task.pk}/change/").context["why"].buttons
    resume("default", "crm", by="bob")
    pause("default", "crm", by="eve", reason="now really")
    press(client, "resume", version=button.version)
    assert is_paused()
    (button,) = client.get(f"{LIST}{task.pk}/change/").context["why"].buttons
    press(client, "resume", version=button.version)
    assert not is_paused()


def test_aftersaves_own_queue_cannot_be_paused(client):
    Queue.objects.create(name="aftersave")
    response = press(client, "pause", "aftersave")
    assert "cannot be paused" in messages_of(response)[0]
    assert not is_paused("aftersave")


@pytest.mark.parametrize("name", ["pause", "resume"])
class TestBoth:
    def test_get_answers_405(self, client, name):
        assert client.get(address(name)).status_code == 405

    def test_who_lacks_the_right_gets_403(self, name):
        others = [right for right in EVERYTHING if right != "pause_queue"]
        assert press(staff(*others), name).status_code == 403
        assert press(staff("pause_queue", name="eve"), name).status_code == 403
        assert not TaskEvent.objects.exists()

    def test_a_queue_that_nobody_knows_answers_404(self, client, name):
        assert press(client, name, "nonsense").status_code == 404
        assert not Queue.objects.filter(pk="nonsense").exists()


@pytest.mark.parametrize("name", ["a/b", "two words", "50%", "ä?#"])
def test_a_queue_may_have_any_name(client, name):
    enqueue("shop.do", queue=name)
    row = Queue(name=name)
    button = queue_buttons(viewer("view_task", "pause_queue"), [row])[name]
    client.post(button.url, {button.reason_name: "because"})
    assert is_paused(name)


def test_the_button_says_how_many_tasks_are_due_and_asks_why(queue):
    person = viewer("view_task", "pause_queue")
    button = queue_buttons(person, [queue], {"crm": "12"})["crm"]
    page = render_to_string("tasks/dashboard/parts/queue_buttons.html", {"button": button})
    assert "12 of its tasks are due" in page
    assert 'name="reason-pause-crm"' in page
    assert f'formaction="{address("pause")}"' in page
    pause("default", "crm")
    queue.refresh_from_db()
    button = queue_buttons(person, [queue])["crm"]
    page = render_to_string("tasks/dashboard/parts/queue_buttons.html", {"button": button})
    assert f'formaction="{address("resume")}"' in page
    assert "reason" not in page


def test_who_may_not_pause_has_no_button_and_aftersaves_own_queue_has_none(queue):
    assert queue_buttons(viewer("view_task", "view_queue"), [queue]) == {}
    own = Queue(name="aftersave")
    assert list(queue_buttons(viewer("pause_queue"), [queue, own])) == ["crm"]
