import re
from typing import Any

import pytest
from django.contrib import admin
from django.http import Http404, QueryDict
from django.test import Client

from tasks import queues
from tasks.dashboard import events
from tasks.dashboard.page import pages
from tasks.dashboard.viewer import Viewer
from tasks.models import BulkAction, Incident, Task, TaskEvent
from tests.tasks.admin_rows import LIST, failed, staff, text_of
from workers.testing import run_tasks

pytestmark = pytest.mark.django_db(transaction=True)

ACTIVITY = f"{LIST}activity/"
ALL = ("view_task", "view_task_data", "view_queue", "manage_incident")


def shown_events(response: Any) -> list[int]:
    return [int(key) for key in re.findall(r'id="af-event-(\d+)"', text_of(response))]


def links(response: Any) -> dict[str, str]:
    """Older, Newer, by their rel."""
    tags = re.findall(r'<a href="([^"]*)" rel="(\w+)"', text_of(response))
    return {rel: address.replace("&amp;", "&") for address, rel in tags}


def in_bulk(client: Client, action: str = "retry") -> BulkAction:
    client.post(f"{LIST}bulk/start/", {"action": action, "q": "state:failed"})
    run_tasks(queues=["aftersave"])
    return BulkAction.objects.latest("pk")


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAGE", 3)
    monkeypatch.setattr(events, "_BATCH", 5)


def test_who_did_what_when_and_why_newest_first() -> None:
    first, second = failed(), failed()
    first.retry(by="ann", reason="the bank is back")
    second.complete(by="bob", reason="sent by hand")
    shown = staff(*ALL).get(ACTIVITY)
    newest, oldest = TaskEvent.objects.order_by("-pk")
    assert shown_events(shown) == [newest.pk, oldest.pk]
    text = text_of(shown)
    assert "<strong>ann</strong> retried" in text
    assert "<q>the bank is back</q>" in text
    assert f'href="{LIST}{second.pk}/change/"' in text
    assert newest.at.strftime("%Y-%m-%dT%H:%M:%S") in text


def test_what_was_changed_is_shown_to_who_may_see_data() -> None:
    task = failed(data={"to": "a@example.com", "password": "abc"})
    task.change_data({"to": "b@example.com", "password": "new-hunter2"}, by="ann", reason="typo")
    text = text_of(staff(*ALL).get(ACTIVITY))
    assert re.search(rf"ann</strong> changed the data of\s+<a [^>]*>shop.do #{task.pk}<", text)
    assert "data.to" in text
    assert "b@example.com" in text
    assert "new-hunter2" not in text
    assert "b@example.com" not in text_of(staff("view_task", name="bob").get(ACTIVITY))


def test_queues_and_incidents_are_named() -> None:
    queues.pause("default", "crm", by="ann", reason="it is down")
    incident = Incident.objects.create(fingerprint="f", type="shop", action="do")
    TaskEvent.objects.create(incident=incident, who="bob", action="incident_take")
    text = text_of(staff(*ALL).get(ACTIVITY))
    assert re.search(r"<strong>ann</strong> paused the queue\s+<a [^>]*>crm</a>", text)
    assert re.search(r"<strong>bob</strong> took\s+<a [^>]*>incident #\d+ \(shop.do\)</a>", text)
    incident.delete()
    text = text_of(staff(*ALL, name="zoe").get(ACTIVITY))
    assert re.search(r"<strong>bob</strong> took\s+incident\s", text)


def test_without_the_rights_events_of_queues_and_incidents_are_not_told() -> None:
    queues.pause("default", "crm", by="ann")
    incident = Incident.objects.create(fingerprint="f", type="shop", action="do")
    TaskEvent.objects.create(incident=incident, who="bob", action="incident_take")
    assert shown_events(staff("view_task").get(ACTIVITY)) == []
    assert len(shown_events(staff("view_task", "pause_queue", name="b").get(ACTIVITY))) == 1
    assert len(shown_events(staff("view_task", "manage_incident", name="c").get(ACTIVITY))) == 1


def test_a_bulk_action_is_one_line_with_its_progress_and_its_address() -> None:
    tasks = [failed() for _ in range(3)]
    client = staff("view_task", "bulk_task", "retry_task")
    begun = in_bulk(client)
    shown = client.get(ACTIVITY)
    assert len(shown_events(shown)) == 1
    text = text_of(shown)
    assert re.search(rf'started\s+<a href="{LIST}bulk/{begun.pk}/">Retry of 3 tasks</a>', text)
    assert "3 of 3 done" in text
    assert '<progress max="3" value="3"' in text

    each = client.get(f"{ACTIVITY}?bulk={begun.pk}")
    assert len(shown_events(each)) == 3
    for task in tasks:
        assert f"/{task.pk}/change/" in text_of(each)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("of_bulk", [False, True])
def test_older_and_newer_lead_through_everything_and_back(of_bulk: bool) -> None:
    tasks = [failed() for _ in range(8)]
    client = staff("view_task", "bulk_task", "retry_task")
    address = ACTIVITY
    if of_bulk:
        address += f"?bulk={in_bulk(client).pk}"
    else:
        for task in tasks:
            task.retry(by="ann")
    expected = list(
        TaskEvent.objects.filter(about=None).order_by("-pk").values_list("pk", flat=True)
    )

    seen: list[int] = []
    pages = [address]
    while True:
        shown = client.get(pages[-1])
        seen += shown_events(shown)
        if "next" not in links(shown):
            break
        pages.append(links(shown)["next"])
    assert seen == expected
    assert len(pages) == 3

    back = client.get(links(shown)["prev"])
    assert shown_events(back) == expected[3:6]
    assert shown_events(client.get(links(back)["prev"])) == expected[:3]


def test_it_can_be_narrowed_by_person_action_and_queue() -> None:
    one, two, three = failed(queue="crm"), failed(), failed()
    one.retry(by="ann")
    two.retry(by="bob")
    three.complete(by="ann", reason="so")
    queues.pause("default", "crm", by="ann")
    by_task = dict(TaskEvent.objects.values_list("task_id", "pk"))
    client = staff(*ALL)

    def found(query: str) -> set[int]:
        return set(shown_events(client.get(f"{ACTIVITY}?{query}")))

    assert found("who=ann") == {by_task[one.pk], by_task[three.pk], by_task[None]}
    assert found("action=retry") == {by_task[one.pk], by_task[two.pk]}
    assert found("queue=crm") == {by_task[one.pk], by_task[None]}
    assert found("queue=crm&action=queue") == {by_task[None]}
    nobody = client.get(f"{ACTIVITY}?who=nobody")
    assert "Nothing here fits" in text_of(nobody)


def test_a_search_goes_only_so_far_back_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "STEP", 2)
    monkeypatch.setattr(events, "MOST_STEPS", 2)
    task = failed()
    TaskEvent.objects.create(task=task, who="ann", action="retry")
    for _ in range(5):
        TaskEvent.objects.create(task=task, who="bob", action="retry")
    client = staff(*ALL)
    shown = client.get(f"{ACTIVITY}?who=ann")
    assert shown_events(shown) == []
    assert "Nothing was found back to" in text_of(shown)
    further = re.search(r'<a href="([^"]*before=[^"]*)"', text_of(shown))
    assert further
    assert len(shown_events(client.get(further[1].replace("&amp;", "&")))) == 1


def only_crm(user: Any, tasks: Any) -> Any:
    return tasks.filter(queue="crm")


def test_scoped_staff_are_told_only_of_tasks_they_see(settings: Any) -> None:
    hidden, seen = failed(), failed(queue="crm")
    for task in (hidden, seen):
        task.retry(by="ann")
        Task.objects.filter(pk=task.pk).update(
            state="failed", due=False, finished_at="2026-01-01T00:00Z"
        )
    boss = staff("view_task", "bulk_task", "retry_task", name="boss")
    begun = in_bulk(boss)
    incident = Incident.objects.create(fingerprint="f", type="shop", action="do")
    TaskEvent.objects.create(incident=incident, who="bob", action="incident_take")

    settings.AFTERSAVE = {"VISIBLE_TASKS": only_crm}
    client = staff(*ALL)
    shown = client.get(ACTIVITY)
    assert shown_events(shown) == [TaskEvent.objects.get(task=seen, bulk=None).pk]
    assert "bulk" not in " ".join(re.findall(r"/bulk/\d+/", text_of(shown)))
    assert client.get(f"{ACTIVITY}?bulk={begun.pk}").status_code == 404


def test_an_empty_page_says_why_and_what_next() -> None:
    text = text_of(staff(*ALL).get(ACTIVITY))
    assert "Nobody has done anything yet." in text


@pytest.mark.parametrize(
    "query", ["before=x", "before=-1", "after=99999999999999999999", "bulk=²", "action=explode"]
)
def test_an_address_somebody_made_up_is_no_error(query: str) -> None:
    failed().retry(by="ann")
    assert staff(*ALL).get(f"{ACTIVITY}?{query}").status_code == 200


def test_what_events_carry_is_text() -> None:
    task = failed()
    task.retry(by="<script>ann", reason='"><img src=x> password=hunter2')
    text = text_of(staff(*ALL).get(ACTIVITY))
    assert "<script>ann" not in text
    assert "<img src=x" not in text
    assert "hunter2" not in text


def test_a_full_page_costs_few_questions(django_assert_max_num_queries: Any) -> None:
    client = staff(*ALL, "bulk_task", "retry_task")
    for number in range(60):
        task = failed(queue=f"q{number % 5}")
        task.retry(by="ann")
        if number % 10 == 0:
            failed()
            in_bulk(client)
    with django_assert_max_num_queries(25):
        client.get(ACTIVITY)
    with django_assert_max_num_queries(25):
        client.get(f"{ACTIVITY}?who=ann&queue=q1")


def test_the_lines_are_one_live_part_that_shows_what_was_done_meanwhile() -> None:
    client = staff(*ALL, "retry_task", "bulk_task", name="boss")
    failed()
    bulk = in_bulk(client)
    request = client.get(ACTIVITY).wsgi_request
    page = pages["activity"](Viewer(request, admin.site), {}, QueryDict())
    before = page.render().parts["af-activity"]
    assert before.lstrip().startswith('<div id="af-activity">')
    assert "csrf" not in before
    BulkAction.objects.filter(pk=bulk.pk).update(looked_at=40, done=39, expected=40)
    queues.pause("default", "crm", by="ann", reason="it is down")
    after = page.render().parts["af-activity"]
    assert "39 of 40 done" in after
    assert "it is down" in after


def test_what_is_followed_of_one_bulk_action_ends_with_it() -> None:
    client = staff(*ALL, "retry_task", "bulk_task", name="boss")
    failed()
    bulk = in_bulk(client)
    request = client.get(ACTIVITY).wsgi_request
    page = pages["activity"](Viewer(request, admin.site), {}, QueryDict(f"bulk={bulk.pk}"))
    page.render()
    bulk.delete()
    with pytest.raises(Http404):
        page.render()
