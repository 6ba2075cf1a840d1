"""Odd input, typed or in an address: never an error of the server, never something else done."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils.http import urlencode

from tasks.dashboard.events import PAGE
from tasks.dashboard.incident_buttons import version
from tasks.dashboard.versions import versions
from tasks.models import BulkAction, Incident, Queue, Task, TaskEvent
from tests.tasks.admin_rows import LIST, button_of, failed, in_state, messages_of, text_of
from tests.workload.models import Record

pytestmark = pytest.mark.django_db

NUL = "\x00"


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def the_one_event() -> str:
    return str(TaskEvent.objects.get().reason)


@pytest.mark.parametrize("name", ["who", "action", "queue", "bulk", "before", "after"])
@pytest.mark.parametrize("value", [NUL, "0", "-1", "9" * 30])
def test_the_activity_page_opens_whatever_its_address_asks_for(client, name, value) -> None:
    assert client.get(f"{LIST}activity/", {name: value}).status_code == 200


def test_newer_than_nothing_is_the_newest_page(client) -> None:
    task = failed()
    TaskEvent.objects.bulk_create(
        TaskEvent(task=task, who="ann", action="retry") for _ in range(PAGE + 1)
    )
    newest = client.get(f"{LIST}activity/").context["entries"]
    assert client.get(f"{LIST}activity/?after=0").context["entries"] == newest


@pytest.mark.parametrize(
    "when", ["9999-12-31T23:59", "9999-12-31", "0001-01-01T00:00Z", "0001-01-01", ">0001-01-01"]
)
@pytest.mark.parametrize("page", ["", "export.csv", "bulk/new/"])
def test_a_time_at_the_end_of_the_calendar_is_none(client, page, when) -> None:
    response = client.get(LIST + page, {"q": f"created:{when}", "action": "retry"})
    assert response.status_code == (400 if page == "export.csv" else 200)
    assert "is no time" in text_of(response)
    assert client.get(LIST, {"at": when}).status_code == 200


@pytest.mark.parametrize("name", ["pause", "resume"])
def test_no_queue_has_a_nul_in_its_name(client, name) -> None:
    response = client.post(f"{LIST}queue/a%00b/{name}/", {"reason": "why"})
    assert response.status_code == 404


class TestNulInAReason:
    def test_of_a_task(self, client) -> None:
        task = failed()
        form = {"version": versions([task])[task.pk], "reason": f"mended{NUL}"}
        assert client.post(button_of(task, "retry"), form).status_code == 302
        assert the_one_event() == "mended"

    def test_of_all_failed_tasks_of_a_record(self, client) -> None:
        record = Record.objects.create(name="The record")
        failed(record=record)
        url = f"{LIST}record-retry/{record._meta.app_label}/{record._meta.model_name}/{record.pk}/"
        assert client.post(url, {"reason": f"mended{NUL}"}).status_code == 302
        assert the_one_event() == "mended"

    def test_of_ticked_tasks(self, client) -> None:
        task = failed()
        tick = f"{task.pk}:{versions([task])[task.pk]}"
        form = {"ticked": tick, "reason-complete-selected": f"by{NUL} phone"}
        assert client.post(f"{LIST}selected/complete/", form).status_code == 302
        assert the_one_event() == "by phone"

    def test_of_a_queue(self, client) -> None:
        Queue.objects.create(name="crm")
        for reason, events in ((NUL, 0), (f"down{NUL}", 1)):
            client.post(f"{LIST}queue/crm/pause/", {"reason": reason})
            assert TaskEvent.objects.count() == events
        assert the_one_event() == "down"

    @pytest.mark.parametrize("name", ["note", "mute", "resolve"])
    def test_of_an_incident(self, client, name) -> None:
        incident = Incident.objects.create(fingerprint="f", type="shop", action="do")
        form = {"version": version(incident), "reason": f"known{NUL}", "link": f"http://a{NUL}b/"}
        url = f"{LIST}incidents/{incident.pk}/{name}/"
        assert client.post(url, form).status_code == 302
        assert the_one_event() == "known"

    def test_of_a_bulk_action_and_in_its_search(self, client) -> None:
        failed()
        form = {"action": "retry", "q": f"state:failed{NUL}", "shown": "1", "reason": f"now{NUL}"}
        client.post(f"{LIST}bulk/start/", form)
        begun = BulkAction.objects.get()
        assert (begun.query, begun.reason) == ("state:failed", "now")
        client.post(f"{LIST}bulk/{begun.pk}/pause/", {"reason-pause": f"wait{NUL}"})
        assert begun.story.get(action="bulk_pause").reason == "wait"


def bulk(client: Client, query: str) -> Any:
    form = {"action": "cancel", "q": query, "shown": "2", "reason": "withdrawn"}
    return client.post(f"{LIST}bulk/start/", form, follow=True)


def test_a_bulk_action_never_leaves_out_the_end_of_a_long_search(client) -> None:
    wanted, _other = in_state("later"), in_state("later")
    # Its last term stands where a thousand characters end.
    query = f"created:>2000-01-01{' ' * 980}id:{wanted.pk}"
    assert "too long" in text_of(client.get(f"{LIST}bulk/new/", {"action": "cancel", "q": query}))
    assert "too long" in messages_of(bulk(client, query))[0]
    assert not BulkAction.objects.exists()


@pytest.mark.parametrize("queue", ["crm", "two words", 'a "b" c', '"'])
def test_links_to_the_tasks_of_a_queue_find_them_whatever_it_is_called(client, queue) -> None:
    task = in_state("later", queue=queue)
    Queue.objects.create(name=queue)
    page = client.get(f"{LIST}{task.pk}/change/")
    client.post(page_of_queue(queue), {"reason": "down"})
    shown = client.get(f"{LIST}activity/").context["entries"]
    (fact,) = [value for name, value in page.context["facts"] if name == "Queue"]
    for url in (shown[0].url, str(fact).split('"')[1].replace("&amp;", "&")):
        found = client.get(url).context
        assert not found["match"].errors
        assert [row.id for row in found["rows"]] == [task.pk]


def page_of_queue(queue: str) -> str:
    return f"{LIST}queue/{urlencode({'': queue})[1:].replace('+', '%20')}/pause/"


def test_a_task_of_no_number_that_a_row_could_have_is_not_there(client) -> None:
    for number in (0, 2**63 - 1, 2**63, 10**30):
        for page in ("change", "data"):
            assert client.get(f"{LIST}{number}/{page}/").status_code == 404
        assert client.post(f"{LIST}{number}/retry/").status_code == 404
        assert client.get(f"{LIST}incidents/{number}/").status_code == 404
        assert client.get(f"{LIST}bulk/{number}/").status_code == 404
    assert not Task.objects.exists()
