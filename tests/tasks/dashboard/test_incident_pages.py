"""Incidents: the list, the page of one, its buttons, and *Try one, then the rest*."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import QueryDict
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import enqueue, handler, incidents
from tasks.dashboard.incident_buttons import version
from tasks.dashboard.page import pages
from tasks.dashboard.viewer import Viewer
from tasks.models import BulkAction, Failure, Incident, IncidentHour, State, Task, TaskEvent
from tests.tasks.admin_rows import LIST, messages_of, staff, text_of
from tests.tasks.dashboard.scene import paint
from tests.tasks.tools import finish, threads, wait_until_blocked

pytestmark = pytest.mark.django_db

INCIDENTS = f"{LIST}incidents/"
MANAGER = ("view_task", "manage_incident", "retry_task", "bulk_task", "view_task_data")


def incident(number: int = 1, name: str = "shop.do", **columns: Any) -> Incident:
    type_, action = name.split(".", 1)
    known = {
        "fingerprint": f"f{number}",
        "exception": "shop.errors.Broken",
        "message": "it broke",
        "failures": 3,
    }
    return Incident.objects.create(type=type_, action=action, **known | columns)


def failed(of: Incident, message: str = "it broke", **more: Any) -> Task:
    task = finish(enqueue(of.name, **more), State.FAILED, reason=f"Broken: {message}")
    Task.objects.filter(pk=task.pk).update(fingerprint=of.fingerprint)
    Failure.objects.create(
        task=task,
        attempt=1,
        exception=of.exception,
        message=message,
        traceback=f"Traceback of {task.pk}: {message}",
        fingerprint=of.fingerprint,
    )
    task.refresh_from_db()
    return task


def page_of(one: Incident) -> str:
    return f"{INCIDENTS}{one.pk}/"


def words(html: str) -> str:
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", html).split()))


def shown(client: Any, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return text_of(response)


def version_of(one: Incident, name: str) -> str:
    """What the page shows beside the button."""
    if name != "try":
        return version(Incident.objects.get(pk=one.pk))
    trial = incidents.trial(one)
    return str(trial.event.pk) if trial else "0"


def press(client: Any, one: Incident, name: str, **fields: str) -> Any:
    fields = {"version": version_of(one, name), **fields}
    return client.post(f"{page_of(one)}{name}/", fields, follow=True)


def event_of(one: Incident) -> TaskEvent:
    return TaskEvent.objects.filter(incident=one).order_by("-id")[0]


def mails_only(user: Any, queryset: Any) -> Any:
    """VISIBLE_TASKS of these tests."""
    return queryset.filter(type="email")


def do_handler(message: str) -> None:
    @handler("shop.do", title="Do it", on_failure="Call the shop.", runbook="https://run.example/1")
    def do(task):
        raise ValueError(message)


# The list


def test_an_incident_says_what_failed_how_often_and_since_when():
    do_handler("x")
    seen = timezone.now() - timedelta(days=3)
    one = incident(first_seen_at=seen, first_release="2026.11.3", failures=1412)
    failed(one)
    IncidentHour.objects.create(
        incident=one, hour=timezone.now().replace(minute=0, second=0, microsecond=0), failures=7
    )
    text = shown(staff("view_task"), INCIDENTS)
    said = words(text)
    assert "Do it" in said
    assert "shop.do · Broken" in said
    assert "1 failed now 1,412 ever" in said
    assert "release 2026.11.3" in said
    assert 'aria-label="7 failures in the last 2 days, at most 7 in one hour"' in text
    assert seen.isoformat()[:19] in text
    assert page_of(one) in text


@pytest.mark.parametrize("status", ["open", "taken", "muted", "resolved"])
def test_each_state_has_its_own_list_and_its_number(status):
    for number, value in enumerate(Incident.Status.values):
        incident(number, status=value, message=f"message of {value}")
    said = words(shown(staff("view_task"), f"{INCIDENTS}?status={status}"))
    assert f"message of {status}" in said
    assert said.count("message of") == 1
    assert "Open 1" in said
    assert "Resolved 1" in said


@pytest.mark.parametrize("status", ["open", "taken", "muted", "resolved"])
def test_an_empty_list_says_why_and_what_next(status):
    assert "af-empty" in shown(staff("view_task"), f"{INCIDENTS}?status={status}")


def test_older_incidents_are_a_page_away():
    now = timezone.now()
    for number in range(30):
        # Several were seen last at the same moment: the number decides.
        at = now - timedelta(minutes=number // 10)
        incident(number, message=f"message {number}.", last_seen_at=at)
    client = staff("view_task")
    first = shown(client, INCIDENTS)
    older = re.search(r'href="(\?status=open&amp;before=\d+)"', first)
    assert older
    second = shown(client, INCIDENTS + unescape(older[1]))
    found = re.findall(r"message (\d+)\.", words(first) + words(second))
    assert sorted(map(int, found)) == list(range(30))
    assert 'rel="next"' not in second
    assert "message 0." in shown(client, f"{INCIDENTS}?before=x&status=<b>")


# The page


def test_the_page_has_the_advice_the_failure_and_the_newest_tasks():
    do_handler("x")
    one = incident()
    tasks = [failed(one, f"cause {number}") for number in range(12)]
    text = shown(staff(*MANAGER), page_of(one))
    assert "Call the shop." in text
    assert 'href="https://run.example/1"' in text
    assert f"Traceback of {tasks[-1].pk}: cause 11" in text
    ids = [int(key) for key in re.findall(r'id="af-task-(\d+)"', text)]
    assert ids == [task.pk for task in reversed(tasks[2:])]
    assert f"?q=incident%3A{one.pk}" in text
    assert "12 failed now" in words(text)


def test_tracebacks_are_for_those_who_may_see_data_and_secrets_for_nobody():
    one = incident(message="token=abcdefgh12 refused")
    failed(one, "password=hunter22")
    assert "Traceback of" not in shown(staff("view_task"), page_of(one))
    text = shown(staff(*MANAGER, name="bo"), page_of(one))
    assert "Traceback of" in text
    assert "hunter22" not in text
    assert "abcdefgh12" not in text
    assert "hunter22" not in shown(staff("view_task", name="cy"), INCIDENTS)


def test_an_incident_that_is_not_there_is_not_found():
    assert staff("view_task").get(f"{INCIDENTS}77/").status_code == 404


def test_a_ticket_is_the_page_in_plain_text(settings):
    settings.AFTERSAVE = {"BASE_URL": "https://shop.example"}
    do_handler("x")
    one = incident(first_release="2026.11.3")
    failed(one, "cause")
    text = shown(staff(*MANAGER), page_of(one))
    ticket = unescape(text[text.index('id="af-ticket-text"') :].split(">", 1)[1].split("</pre>")[0])
    assert "Do it (shop.do)" in ticket
    assert f"https://shop.example{page_of(one)}" in ticket
    assert "2026.11.3" in ticket
    assert "Traceback of" in ticket


def test_whatever_is_carried_is_text():
    nasty = "<script>alert(1)</script>"
    one = incident(
        exception=nasty,
        message=nasty,
        status="taken",
        taken_by=nasty,
        note=nasty,
        first_release=nasty,
    )
    TaskEvent.objects.create(incident=one, who=nasty, action=nasty, reason=nasty)
    failed(one, nasty)
    for address in (page_of(one), f"{INCIDENTS}?status=taken"):
        text = shown(staff(*MANAGER, name=address), address)
        assert "<script>alert" not in text
        assert "&lt;script&gt;" in text


def test_pages_ask_the_same_number_of_questions_whatever_there_is():
    scene = paint()
    client = staff(*MANAGER)
    addresses = [INCIDENTS, page_of(scene.incidents[0])]
    for address in addresses:
        shown(client, address)
    counts = []
    for more in (False, True):
        if more:
            for number in range(40):
                failed(incident(100 + number))
            for _ in range(20):
                failed(scene.incidents[0])
        for address in addresses:
            with CaptureQueriesContext(connection) as queries:
                shown(client, address)
            counts.append(len(queries))
    assert counts[0] == counts[2]
    assert counts[1] >= counts[3]  # the newer ones have no record to load
    assert max(counts) <= 25


def test_live_parts_are_what_the_page_shows_and_carry_no_token():
    scene = paint()
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    from django.contrib.admin import site

    viewer = Viewer(request, site)
    for name, arguments in (
        ("incidents", {}),
        ("incident", {"incident_id": scene.incidents[0].pk}),
    ):
        page = pages[name](viewer, arguments, QueryDict())
        parts = page.render().parts
        assert set(parts) == set(page.parts)
        for element, html in parts.items():
            assert f'id="{element}"' in html
            assert "csrf" not in html


# Buttons


def test_taking_says_who_and_giving_back_opens_again():
    one = incident()
    client = staff(*MANAGER)
    response = press(client, one, "take")
    one.refresh_from_db()
    assert (one.status, one.taken_by) == ("taken", "ann")
    assert messages_of(response) == ["You look after this incident now."]
    assert "taken by ann" in words(text_of(response))
    assert event_of(one).action == "incident_take"
    assert LogEntry.objects.count() == 1
    press(client, one, "release")
    one.refresh_from_db()
    assert (one.status, one.taken_by) == ("open", "")


def test_a_mute_has_an_end_and_can_be_ended():
    one = incident()
    client = staff(*MANAGER)
    response = press(
        client, one, "mute", **{f"until-mute-{one.pk}": "1d", f"reason-mute-{one.pk}": "known"}
    )
    said = ["It is muted: until the time shown here nobody is told of it."]
    assert messages_of(response) == said
    assert "muted until" in words(text_of(response))
    one.refresh_from_db()
    assert one.status == "muted"
    overview = client.get(f"{LIST}overview/")
    assert "No incident is open." in text_of(overview)
    assert "Muted incidents are not shown." in text_of(overview)
    left = one.muted_until - timezone.now()
    assert timedelta(hours=23) < left <= timedelta(days=1)
    assert event_of(one).reason == "known"
    press(client, one, "unmute")
    one.refresh_from_db()
    assert one.status == "open"


def test_resolving_keeps_the_reason():
    one = incident()
    press(staff(*MANAGER), one, "resolve", **{f"reason-resolve-{one.pk}": "fixed in 12"})
    one.refresh_from_db()
    assert one.status == "resolved"
    assert event_of(one).reason == "fixed in 12"


def test_the_page_says_when_it_was_resolved():
    one = incident(status="resolved", resolved_at=timezone.now() - timedelta(days=5))
    text = shown(staff("view_task"), page_of(one))
    assert re.search(r"<dt>Resolved</dt><dd>.*" + re.escape(one.resolved_at.isoformat()), text)


def test_a_note_and_a_link_are_shown_and_a_bad_link_is_refused():
    one = incident()
    client = staff(*MANAGER)
    fields = {f"reason-note-{one.pk}": "asked them", f"link-note-{one.pk}": "https://t.example/1"}
    text = text_of(press(client, one, "note", **fields))
    assert "asked them" in text
    assert 'href="https://t.example/1"' in text
    fields[f"link-note-{one.pk}"] = "javascript:alert(1)"
    response = press(client, one, "note", **fields)
    assert messages_of(response)[0].startswith("Nothing was kept")
    assert "javascript:" not in text_of(response)


def test_who_comes_second_is_told_who_was_first():
    one = incident()
    text = shown(staff(*MANAGER), page_of(one))
    version = re.search(r'take/" name="version" value="([^"]*)"', text)
    assert version
    press(staff(*MANAGER, name="bo"), one, "take")
    response = press(staff(*MANAGER, name="cy"), one, "take", version=version[1])
    assert messages_of(response) == ["Nothing was done: bo has taken this incident meanwhile."]
    one.refresh_from_db()
    assert one.taken_by == "bo"


@pytest.mark.parametrize(
    "name", ["take", "release", "mute", "unmute", "resolve", "note", "try", "rest"]
)
def test_without_the_right_nothing_is_offered_and_nothing_done(name):
    one = incident()
    failed(one)
    client = staff("view_task", "retry_task", "bulk_task")
    assert f"incidents/{one.pk}/{name}/" not in shown(client, page_of(one))
    assert client.post(f"{page_of(one)}{name}/").status_code == 403
    assert not TaskEvent.objects.filter(incident=one).exists()
    assert client.get(f"{page_of(one)}{name}/").status_code == 405


# Try one, then the rest


def tried_of(one: Incident) -> Task:
    return event_of(one).task


def test_trying_one_retries_the_newest_alone_and_follows_it():
    one = incident()
    tasks = [failed(one) for _ in range(3)]
    response = press(staff(*MANAGER), one, "try")
    states = [Task.objects.get(pk=task.pk).state for task in tasks]
    assert states == ["failed", "failed", "scheduled"]
    assert tried_of(one) == tasks[-1]
    said = words(text_of(response))
    assert "tried by ann" in said
    assert "Retry the other" not in said
    assert "Try another one" not in said


def test_a_button_pressed_twice_tries_one():
    one = incident()
    for _ in range(3):
        failed(one)
    client = staff(*MANAGER)
    found = re.search(r'try/" name="version" value="(\d+)"', shown(client, page_of(one)))
    assert found
    press(client, one, "try", version=found[1])
    response = press(staff(*MANAGER, name="bo"), one, "try", version=found[1])
    assert messages_of(response) == ["Nothing was done: ann has tried one meanwhile."]
    assert Task.objects.failed().count() == 2


def test_when_it_completes_the_others_are_offered_and_retried_once_with_a_throttle():
    one = incident()
    tasks = [failed(one) for _ in range(4)]
    client = staff(*MANAGER)
    press(client, one, "try")
    finish(tasks[-1])
    text = shown(client, page_of(one))
    assert "It worked." in text
    assert "Retry the other 3" in text
    response = press(client, one, "rest", **{f"rate-{one.pk}": "10"})
    bulk = BulkAction.objects.get()
    assert (bulk.action, bulk.expected, bulk.per_second, bulk.who) == ("retry", 3, 10, "ann")
    assert f"incident:{one.pk}" in bulk.query
    assert response.redirect_chain[-1][0] == f"{LIST}bulk/{bulk.pk}/"
    assert "the others are being retried" in shown(client, page_of(one))
    response = press(client, one, "rest")
    assert messages_of(response) == ["The others are being retried already."]
    assert BulkAction.objects.count() == 1


def test_how_fast_is_asked_only_where_more_than_one_is_left():
    one = incident()
    tasks = [failed(one) for _ in range(3)]
    client = staff(*MANAGER)
    press(client, one, "try")
    finish(tasks[-1])
    assert "How fast?" in shown(client, page_of(one))
    tasks[1].retry()
    text = shown(client, page_of(one))
    assert "Retry the other one" in text
    assert "How fast?" not in text
    press(client, one, "rest")
    assert BulkAction.objects.get().expected == 1


@pytest.fixture
def worked():
    """An incident of which one task was tried and completed, and its other tasks."""
    one = incident(name="email.send")
    tasks = [failed(one) for _ in range(3)]
    press(staff(*MANAGER, name="first"), one, "try")
    finish(tasks[-1])
    return one, tasks[:-1]


@pytest.mark.parametrize("end", ["cancelled_at", "stopped_because"])
def test_a_retry_of_the_others_that_ended_early_does_not_block_the_next(worked, end):
    one, _others = worked
    client = staff(*MANAGER)
    press(client, one, "rest")
    now = timezone.now()
    why = {"cancelled_at": now, "stopped_because": "right"}
    BulkAction.objects.update(finished_at=now, **{end: why[end]})
    assert "Retry the other 2" in shown(client, page_of(one))
    press(client, one, "rest")
    assert BulkAction.objects.count() == 2
    press(client, one, "rest")
    assert BulkAction.objects.count() == 2


def test_a_retry_by_who_sees_a_part_leaves_the_others_to_who_sees_all(worked, settings):
    one, _others = worked
    settings.AFTERSAVE = {"VISIBLE_TASKS": "tests.tasks.dashboard.test_incident_pages.mails_only"}
    press(staff(*MANAGER, name="narrow"), one, "rest")
    settings.AFTERSAVE = {}
    client = staff(*MANAGER)
    assert "Retry the other 2" in shown(client, page_of(one))
    press(client, one, "rest")
    assert BulkAction.objects.filter(scope="").count() == 1


def test_more_than_a_thousand_others_go_through_the_preview_where_the_number_is_typed():
    one = incident()
    now = timezone.now()
    Task.objects.bulk_create(
        Task(
            type="shop",
            action="do",
            state="failed",
            queue="default",
            run_at=now,
            finished_at=now,
            max_attempts=1,
            fingerprint=one.fingerprint,
        )
        for _ in range(1001)
    )
    task = failed(one)
    client = staff(*MANAGER)
    press(client, one, "try")
    finish(task)
    text = shown(client, page_of(one))
    preview = re.search(r'href="([^"]*bulk/new/[^"]*)">Retry the other 1,001…', text)
    assert preview
    assert "1,001" in shown(client, unescape(preview[1]))
    assert messages_of(press(client, one, "rest"))[0].startswith("Nothing was done")
    assert not BulkAction.objects.exists()


def test_the_rest_needs_one_that_worked():
    one = incident()
    failed(one)
    client = staff(*MANAGER)
    assert messages_of(press(client, one, "rest"))[0].startswith("Nothing was done")
    press(client, one, "try")
    assert messages_of(press(client, one, "rest"))[0].startswith("Nothing was done")
    assert not BulkAction.objects.exists()


def test_when_it_fails_again_the_page_says_how():
    one = incident()
    failed(one)
    task = failed(one)
    client = staff(*MANAGER)
    press(client, one, "try")
    finish(Task.objects.get(pk=task.pk), State.FAILED, reason="Broken: still no luck")
    Task.objects.filter(pk=task.pk).update(fingerprint=one.fingerprint)
    said = words(shown(client, page_of(one)))
    assert "It failed again. Broken: still no luck" in said
    assert "Try another one" in said


def test_when_it_fails_in_another_way_the_page_leads_there():
    one, other = incident(1), incident(2)
    task = failed(one)
    client = staff(*MANAGER)
    press(client, one, "try")
    finish(Task.objects.get(pk=task.pk), State.FAILED, reason="Other: no luck")
    Task.objects.filter(pk=task.pk).update(fingerprint=other.fingerprint)
    text = shown(client, page_of(one))
    assert "It failed again, in another way." in text
    assert page_of(other) in text


def test_nothing_is_tried_when_nothing_is_failed_any_more():
    one = incident()
    task = failed(one)
    client = staff(*MANAGER)
    task.retry()
    assert messages_of(press(client, one, "try"))[0].startswith("Nothing was done")


def test_may_has_a_say_in_trying(settings):
    one = incident()
    failed(one)
    settings.AFTERSAVE = {"MAY": lambda user, action, task: False}
    client = staff(*MANAGER)
    assert press(client, one, "try").status_code == 403
    text = shown(client, page_of(one))
    assert "Try one</button>" not in text
    assert "You may not retry the newest tasks of this incident." in text
    settings.AFTERSAVE = {}
    assert "Try one</button>" in shown(client, page_of(one))


def test_may_is_asked_about_the_very_task_that_is_tried(settings):
    one = incident()
    older, newest = failed(one), failed(one)
    settings.AFTERSAVE = {"MAY": lambda user, action, task: task.pk != newest.pk}
    press(staff(*MANAGER), one, "try")
    assert tried_of(one) == older
    settings.AFTERSAVE = {"MAY": lambda user, action, task: task.pk == newest.pk}
    newest.refresh_from_db()
    newest.retry()
    finish(older, State.FAILED, reason="Broken")
    Task.objects.filter(pk=older.pk).update(fingerprint=one.fingerprint)
    assert press(staff(*MANAGER, name="bo"), one, "try").status_code == 403


@pytest.mark.parametrize("name", ["take", "mute", "resolve", "note", "try"])
def test_a_button_that_does_not_say_what_was_seen_does_nothing(name):
    one = incident()
    failed(one)
    response = staff(*MANAGER).post(f"{page_of(one)}{name}/", follow=True)
    assert messages_of(response)[0].startswith("Nothing was done")
    assert not TaskEvent.objects.filter(incident=one).exists()
    assert Task.objects.failed().count() == 1


# Who sees a part


def test_incidents_without_a_visible_task_are_not_there(settings):
    ours, theirs = incident(1, "email.send"), incident(2, "card.charge")
    failed(ours)
    failed(theirs)
    settings.AFTERSAVE = {"VISIBLE_TASKS": "tests.tasks.dashboard.test_incident_pages.mails_only"}
    client = staff(*MANAGER)
    text = shown(client, INCIDENTS)
    assert "email.send" in text
    assert "card.charge" not in text
    assert client.get(page_of(ours)).status_code == 200
    assert client.get(page_of(theirs)).status_code == 404
    assert client.post(f"{page_of(theirs)}take/").status_code == 404
    assert client.post(f"{page_of(theirs)}try/").status_code == 404


def test_who_sees_a_part_finds_their_incidents_behind_many_of_others(settings):
    ours = incident(0, "email.send", last_seen_at=timezone.now() - timedelta(days=1))
    failed(ours)
    for number in range(1, 40):
        incident(number, "card.charge")
    settings.AFTERSAVE = {"VISIBLE_TASKS": "tests.tasks.dashboard.test_incident_pages.mails_only"}
    client = staff(*MANAGER)
    for address in (INCIDENTS, f"{LIST}overview/"):
        assert page_of(ours) in shown(client, address)


def test_of_a_mixed_incident_only_the_visible_tasks_are_told(settings):
    one = incident(1, "email.send", message="the card of Bolero", failures=98_765_432)
    mine = failed(one, "no such box")
    hidden = failed(one, "the card of Bolero")
    Task.objects.filter(pk=hidden.pk).update(type="card")
    Incident.objects.filter(pk=one.pk).update(newest_task_id=hidden.pk)
    settings.AFTERSAVE = {"VISIBLE_TASKS": "tests.tasks.dashboard.test_incident_pages.mails_only"}
    client = staff(*MANAGER)
    for address in (INCIDENTS, page_of(one), f"{LIST}overview/"):
        text = shown(client, address)
        assert "1 failed now" in words(text)
        assert "no such box" in text
        assert "Bolero" not in text
        assert "98765432" not in words(text).replace(",", "")
    press(client, one, "try")
    assert tried_of(one) == mine
    assert Task.objects.get(pk=hidden.pk).state == "failed"


def test_a_trial_of_somebody_elses_task_is_not_shown(settings):
    one = incident(1, "email.send")
    failed(one)
    hidden = failed(one)
    press(staff(*MANAGER), one, "try")
    Task.objects.filter(pk=hidden.pk).update(type="card")
    settings.AFTERSAVE = {"VISIBLE_TASKS": "tests.tasks.dashboard.test_incident_pages.mails_only"}
    text = shown(staff(*MANAGER, name="bo"), page_of(one))
    assert f"#{hidden.pk}" not in text
    assert "retried a task" not in text


def test_who_sees_a_part_reads_what_was_done_about_it_and_to_the_tasks_they_see(settings):
    one, ann = incident(1, "email.send"), staff(*MANAGER)
    mine = failed(one)
    press(ann, one, "take")
    press(ann, one, "try")
    form = {"action": "retry", "q": f"incident:{one.pk}", "incident": one.pk, "shown": 1}
    failed(one)
    ann.post(f"{LIST}bulk/start/", {**form, "reason": "Bolero has paid"})
    assert "Bolero" in shown(ann, page_of(one))
    settings.AFTERSAVE = {"VISIBLE_TASKS": "tests.tasks.dashboard.test_incident_pages.mails_only"}
    text = shown(staff(*MANAGER, name="bo"), page_of(one))
    assert "took it" in text
    assert f"#{mine.pk}" in text
    assert "Bolero" not in text
    assert "started a bulk action" not in text


@pytest.mark.parametrize("before", ["9" * 5000, "9" * 19, "0"])
def test_an_address_with_a_number_of_no_incident_shows_the_first_page(before):
    incident(message="message of it")
    assert "message of it" in shown(staff("view_task"), f"{INCIDENTS}?before={before}")


def test_the_admin_log_tells_why():
    one, client = incident(), staff(*MANAGER)
    press(client, one, "take")
    press(client, one, "note", **{f"reason-note-{one.pk}": "asked them"})
    press(client, one, "resolve", **{f"reason-resolve-{one.pk}": "it is fixed"})
    entries = LogEntry.objects.filter(content_type__model="incident").order_by("pk")
    assert [entry.get_change_message() for entry in entries] == [
        "Take it",
        "Note and link: asked them",
        "Resolve: it is fixed",
    ]


@pytest.mark.parametrize("changed", [{"note": "mine"}, {"link": "https://t.example/1"}])
def test_of_two_who_write_a_note_the_second_is_told(changed):
    one, client = incident(), staff(*MANAGER)
    seen = version_of(one, "note")
    Incident.objects.update(**changed)
    response = press(client, one, "note", version=seen, **{f"reason-note-{one.pk}": "yours"})
    assert "Nothing was done" in messages_of(response)[0]
    one.refresh_from_db()
    assert one.note == changed.get("note", "")


@pytest.mark.parametrize("link", ["javascript:alert(1)", "JavaScript:x", "data:text/html,x", "/x"])
def test_a_stored_link_that_is_no_address_of_a_page_is_not_shown_as_one(link):
    text = shown(staff("view_task"), page_of(incident(link=link, note="look")))
    assert 'href="' + link not in text
    assert "look" in text


def test_secrets_in_a_note_and_its_link_are_hidden():
    one = incident(note="password=hunter2 works", link="https://ann:hunter2@example.com/8")
    text = text_of(staff("view_task").get(f"{INCIDENTS}{one.pk}/"))
    assert "hunter2" not in text
    assert "works" in text


@pytest.mark.django_db(transaction=True)
def test_who_decides_while_somebody_else_does_hears_of_it_and_changes_nothing():
    one = incident()
    url, seen = f"{INCIDENTS}{one.pk}/mute/", version(one)
    client = staff(*MANAGER)
    with threads(1) as run, transaction.atomic():
        incidents.take(one, by="bob")
        pressed = run(client.post, url, {"version": seen, "until": "1h"})
        wait_until_blocked()
    text = messages_of(client.get(pressed.result(10).url))[0]
    assert text == "Nothing was done: bob has taken this incident meanwhile."
    one.refresh_from_db()
    assert (one.status, one.taken_by) == ("taken", "bob")


def test_the_traceback_is_of_this_incident_whatever_became_of_its_task_later():
    one = incident()
    task = failed(one, "the first")
    Incident.objects.update(newest_task_id=task.pk)
    task.retry()
    finish(task)
    other = {"exception": "x", "traceback": "of another", "fingerprint": "z"}
    Failure.objects.create(task=task, attempt=2, **other)
    text = shown(staff(*MANAGER), page_of(one))
    assert f"Traceback of {task.pk}: the first" in text
    assert "of another" not in text


def test_when_the_others_were_retried_the_page_says_so(worked):
    one, _others = worked
    client = staff(*MANAGER)
    press(client, one, "rest")
    assert "the others are being retried" in shown(client, page_of(one))
    BulkAction.objects.update(finished_at=timezone.now())
    said = words(shown(client, page_of(one)))
    assert "It worked, and the others were retried." in said
    assert "are being retried" not in said
    response = press(client, one, "rest")
    assert messages_of(response) == ["The others were retried already: try another one first."]


def test_while_the_one_that_was_tried_is_tried_again_the_page_says_why():
    one = incident()
    failed(one)
    task = failed(one, "of old")
    client = staff(*MANAGER)
    press(client, one, "try")
    later = timezone.now() + timedelta(minutes=1)
    Task.objects.filter(pk=task.pk).update(due=False, run_at=later)
    assert "It failed once more" not in shown(client, page_of(one)), "it only waits"
    Failure.objects.create(task=task, attempt=2, exception="shop.Down", message="no luck yet")
    said = words(shown(client, page_of(one)))
    assert "It failed once more, and tries again by itself. Down: no luck yet" in said


def test_a_note_with_a_secret_is_kept_by_a_form_that_does_not_show_it():
    note, link = "password=hunter2 works", "https://ann:hunter2@example.com/8"
    one = incident(note=note, link=link)
    client = staff(*MANAGER)
    text = shown(client, page_of(one))
    assert "hunter2" not in text
    values = [unescape(found) for found in re.findall(r'value="([^"]*)"', text)]
    (seen,) = [value for value in values if value.endswith(" works")]
    (seen_link,) = [value for value in values if value.endswith("@example.com/8")]
    fields = {f"reason-note-{one.pk}": seen, f"link-note-{one.pk}": "https://t.example/9"}
    press(client, one, "note", **fields)
    one.refresh_from_db()
    assert (one.note, one.link) == (note, "https://t.example/9")
    press(client, one, "note", **{f"reason-note-{one.pk}": "it is over"})
    one.refresh_from_db()
    assert one.note == "it is over"
    assert seen_link
