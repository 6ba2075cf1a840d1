"""The page of one task: what it shows, and to whom."""

import json
import re
import time
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.http import QueryDict
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy

from orders.models import Order
from tasks import enqueue, handler
from tasks.dashboard.display import exact
from tasks.dashboard.pages.task import TaskPage
from tasks.dashboard.viewer import Viewer
from tasks.models import Failure, LogLine, Queue, State, Task, TaskEvent, Worker
from tasks.queues import pause
from tests.tasks.admin_rows import (
    EVERYTHING,
    LIST,
    button_of,
    failed,
    in_state,
    page_of,
    staff,
    text_of,
)
from tests.tasks.failing import fail
from tests.tasks.tools import WORKER, finish
from tests.workload.models import Record

pytestmark = pytest.mark.django_db

STATES = ("waiting", "later", "due", "running", "retrying", "failed", "completed", "cancelled")


@pytest.fixture
def client():
    return staff(*EVERYTHING)


def log(task, text, **more):
    return LogLine.objects.create(
        task=task, text=text, **{"attempt": 1, "at": timezone.now(), "level": 20, **more}
    )


def story_of(response):
    """Its time line alone: a ticket says the same once more."""
    return re.search(r'<ol class="af-story">.*?</ol>', text_of(response), re.DOTALL)[0]


def no_task_outside(user, queryset):
    return queryset.filter(queue="mine")


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_page(client, state):
    page = text_of(client.get(page_of(in_state(state))))
    assert ("waiting for others" if state == "waiting" else state) in page


def test_data_result_log_and_failures_are_shown_to_who_may_see_them(client):
    task = failed(message="the MESSAGE", traceback="the TRACEBACK")
    Task.objects.filter(pk=task.pk).update(data={"k": "the DATA"}, result=["the RESULT"])
    Task.objects.filter(pk=task.pk).update(context={"rule": "the CONTEXT"})
    TaskEvent.objects.create(
        task=task, action="change_data", difference=[{"path": "data.k", "before": "the CHANGE"}]
    )
    log(task, "the LOGLINE")
    carried = ("MESSAGE", "TRACEBACK", "DATA", "RESULT", "CONTEXT", "LOGLINE", "CHANGE")
    page = text_of(client.get(page_of(task)))
    assert [word for word in carried if f"the {word}" not in page] == []
    page = text_of(staff("view_task", name="bob").get(page_of(task)))
    assert [word for word in carried if f"the {word}" in page] == []
    assert "it broke" in page
    assert str(task.idempotency_key) in page
    assert "need the right" in page


def test_a_traceback_is_folded(client):
    page = text_of(client.get(page_of(failed(traceback="Traceback (most recent call last)"))))
    before = page[: page.index("Traceback (most recent")]
    assert before.rindex("<details") > before.rfind("</details")
    assert "<details open" not in page


def test_everything_a_task_carries_is_text_on_the_page(client):
    script = "<script>alert(1)</script>"
    task = failed(message=script, traceback=script)
    Task.objects.filter(pk=task.pk).update(
        data={script: script}, result=script, reason=script, context={"rule": script}
    )
    TaskEvent.objects.create(
        task=task,
        who=script,
        action=script,
        reason=script,
        difference=[{"path": script, "before": script, "after": {script: script}}, script],
    )
    log(task, script)
    page = text_of(client.get(page_of(task)))
    assert script not in page
    assert page.count("&lt;script&gt;") >= 12


def test_secrets_are_nowhere_on_the_page(client):
    task = failed(
        message="smtp://shop:hunter2@mail refused",
        traceback="login(password='hunter2')",
    )
    Task.objects.filter(pk=task.pk).update(
        data={"deep": [{"api_key": "hunter2"}]},
        result={"url": "https://u:hunter2@host/"},
        reason="token=hunter2",
    )
    TaskEvent.objects.create(task=task, action="retry", reason="with password: hunter2")
    TaskEvent.objects.create(
        task=task,
        action="change_data",
        difference=[{"path": "data", "after": {"token": "hunter2"}}],
        before={"password": "hunter2"},
    )
    log(task, "Authorization: Bearer hunter2hunter2")
    page = text_of(client.get(page_of(task)))
    assert "hunter2" not in page
    assert page.count("[redacted]") >= 8
    assert "hunter2" not in text_of(client.get(LIST))


def test_the_newest_200_log_lines_are_shown_oldest_first(client):
    task = enqueue("shop.do")
    LogLine.objects.bulk_create(
        LogLine(task=task, attempt=1, at=timezone.now(), level=20, text=f"line<{n}>")
        for n in range(250)
    )
    page = text_of(client.get(page_of(task)))
    assert "line&lt;49&gt;" not in page
    assert page.index("line&lt;50&gt;") < page.index("line&lt;249&gt;")
    assert "The newest 200 lines." in page


def test_a_log_of_very_long_lines_is_cut_at_its_beginning(client):
    task = enqueue("shop.do")
    for n in range(30):
        log(task, f"line{n} " + "x" * 8000)
    page = text_of(client.get(page_of(task)))
    assert "line29 " in page
    assert "line2 " not in page
    assert "The newest 12 lines." in page


def test_prerequisites_and_dependents_are_links(client):
    before = enqueue("shop.before")
    task = enqueue("shop.do", after=[before])
    after = enqueue("shop.after", after=[task])
    before.refresh_from_db()
    page = text_of(client.get(page_of(task)))
    assert f'href="{page_of(before)}"' in page
    assert f'href="{page_of(after)}"' in page
    assert f"It waits for #{before.pk}." in page


def test_the_page_says_what_people_did(client):
    task = in_state("failed")
    task.retry(by="ann", reason="mailbox emptied")
    page = text_of(client.get(page_of(task)))
    assert "mailbox emptied" in page
    assert "<strong>ann</strong> retried" in page


def test_old_data_can_be_restored_by_who_may_change_it(client):
    task = in_state("failed")
    event = TaskEvent.objects.create(task=task, action="change_data", before={"to": "old"})
    TaskEvent.objects.create(task=task, action="retry")
    page = text_of(client.get(page_of(task)))
    assert page.count(f"{button_of(task, 'restore')}?event={event.pk}") == 1
    assert "old&quot;" not in page
    page = text_of(staff("view_task", "view_task_data", name="bob").get(page_of(task)))
    assert "/restore/" not in page


def test_the_page_says_why_a_due_task_does_not_run_and_what_helps(client):
    task = enqueue("nobody.knows", queue="crm")
    assert "No handler of the name nobody.knows is known here" in text_of(client.get(page_of(task)))
    task = enqueue("inventory.reserve", queue="crm")
    page = text_of(client.get(page_of(task)))
    assert "No live worker serves the queue crm." in page
    assert "python manage.py runworker --queues crm" in page
    Worker.objects.create(id=1, host="web", pid=1, threads=1, coroutines=1, queues=["crm"])
    assert "the next free worker takes it" in text_of(client.get(page_of(task)))
    Queue.objects.create(name="crm", paused_at=timezone.now(), paused_by="bob")
    page = text_of(client.get(page_of(task)))
    assert "The queue crm was paused by bob" in page
    assert 'formaction="/admin/tasks/task/queue/crm/resume/"' in page


def test_a_failure_comes_with_the_handlers_advice(client):
    @handler("shop.advised", on_failure="Ring the customer.", runbook="https://wiki.example/x")
    def advised(task):
        pass

    page = text_of(client.get(page_of(in_state("failed", "shop.advised"))))
    assert "Ring the customer." in page
    assert 'href="https://wiki.example/x"' in page


def test_the_time_line_tells_every_attempt_in_order(client):
    task = in_state("failed")
    worker = Worker.objects.create(id=9, host="web-3", pid=17, threads=1, coroutines=1)
    began = timezone.now() - timedelta(minutes=5)
    for attempt in (1, 2):
        start = began + timedelta(minutes=attempt)
        Failure.objects.create(
            task=task,
            attempt=attempt,
            worker_id=worker.pk,
            started_at=start,
            at=start + timedelta(seconds=1.5),
            exception="shop.Broken",
            message=f"no {attempt}",
        )
    rule = {"rule": "shop.rules.after_checkout"}
    Task.objects.filter(pk=task.pk).update(created_at=began, context=rule, max_attempts=2)
    page = text_of(client.get(page_of(task)))
    told = (
        "Created by the rule “after_checkout”.",
        "Attempt 1 failed: Broken: no 1",
        "Attempt 2 failed, and none is left: it broke",
    )
    places = [page.index(sentence) for sentence in told]
    assert places == sorted(places)
    assert "after 1.50 s · on web-3:17" in page


def test_an_attempt_that_was_lost_with_its_worker_is_told(client):
    task = in_state("due")
    log(task, LogLine.WORKER_LOST, attempt=3, level=30)
    assert "Attempt 3 was lost with its worker" in text_of(client.get(page_of(task)))


def test_how_the_last_attempt_ended_is_told(client):
    assert "Completed in attempt 1." in text_of(client.get(page_of(in_state("completed"))))
    gone = in_state("due")
    Task.objects.filter(pk=gone.pk).update(
        state="cancelled", due=False, finished_at=timezone.now(), reason="record deleted"
    )
    assert "Cancelled: record deleted" in text_of(client.get(page_of(gone)))


def test_how_earlier_attempts_ended_is_told_when_it_runs_again(client):
    worker = Worker.objects.create(id=WORKER, host="web-3", pid=17, threads=1, coroutines=1)
    task = finish(enqueue("shop.do"))
    Task.objects.filter(pk=task.pk).update(started_at=task.finished_at - timedelta(seconds=1.5))
    task.run_again(by="ann", reason="The mail was lost.")
    finish(task, State.CANCELLED, reason="no stock")
    task.retry(by="bob")
    task.cancel(by="bob", reason="Not now.")
    task.retry(by="bob")
    fail(task)
    task.retry(by="cid")
    finish(task)
    story = story_of(client.get(page_of(task)))
    places = []
    for sentence in (
        "Completed in attempt 1.",
        f"after 1.50 s · on {worker}",
        "The mail was lost.",
        "Cancelled: no stock",
        "Not now.",
        "Attempt 3 failed",
        "Completed in attempt 4.",
    ):
        assert story.count(sentence) == 1, sentence
        places.append(story.index(sentence))
    assert places == sorted(places)
    assert "Cancelled: cancelled by bob" not in story


def test_a_task_that_keeps_its_end_tells_it_once(client):
    task = finish(enqueue("shop.do"), State.CANCELLED, reason="no stock")
    task.change_data({"to": "ann@example.com"}, by="ann", reason="A new address.")
    assert story_of(client.get(page_of(task))).count("Cancelled: no stock") == 1
    task.complete(by="ann", reason="Sent by hand.")
    assert story_of(client.get(page_of(task))).count("Cancelled: no stock") == 1


def test_progress_is_shown_while_it_runs_and_whatever_was_stored(client):
    task = in_state("running")
    for value, shown in (({"done": 3, "total": 8}, "3 of 8"), ({"done": 5, "total": None}, "5")):
        Task.objects.filter(pk=task.pk).update(progress_value=value)
        assert f"<span>{shown}</span>" in text_of(client.get(page_of(task)))
    numbers = {"done": 1_234_567, "total": 20_000_000}, {"done": 0.25, "total": 1.0}
    for value, shown in zip(numbers, ("1,234,567 of 20,000,000", "0.25 of 1"), strict=True):
        Task.objects.filter(pk=task.pk).update(progress_value=value)
        assert f"<span>{shown}</span>" in text_of(client.get(page_of(task)))
    for value in ("<b>", [1], {"done": "<b>"}, {"done": True}):
        Task.objects.filter(pk=task.pk).update(progress_value=value)
        assert "<progress" not in text_of(client.get(page_of(task)))


def test_very_long_and_very_deep_values_are_cut_not_fatal(client):
    deep: list = []
    for _ in range(25):
        deep = [deep]
    task = in_state("completed")
    Task.objects.filter(pk=task.pk).update(data={"d": deep}, result="x" * 300_000)
    response = client.get(page_of(task))
    assert response.status_code == 200
    assert len(response.content) < 250_000
    assert "more characters" in text_of(response)


def test_five_megabytes_of_data_are_shown_at_their_beginning_and_quickly(client):
    task = in_state("failed")
    rows = [{"password": {"deep": "hunter2"}, "n": n, "text": "läuft " * 8} for n in range(50_000)]
    assert len(json.dumps(rows)) > 5_000_000
    Task.objects.filter(pk=task.pk).update(data={"rows": rows}, result=rows)
    started = time.process_time()
    response = client.get(page_of(task))
    assert time.process_time() - started < 3
    page = text_of(response)
    assert len(page) < 700_000
    assert "läuft" in page
    assert "hunter2" not in page
    assert "[redacted]" in page
    assert "more characters" in page


def test_a_page_reads_a_fixed_number_of_rows_whatever_its_neighbours(
    client, django_assert_max_num_queries
):
    task = enqueue("shop.do", after=[enqueue("shop.before") for _ in range(20)])
    for _ in range(20):
        enqueue("shop.after", after=[task])
    for attempt in range(30):
        Failure.objects.create(task=task, attempt=attempt, exception="x.Y", traceback="tb")
        TaskEvent.objects.create(task=task, action="change_data", before={"a": 1})
    client.get(page_of(task))
    with django_assert_max_num_queries(25):
        client.get(page_of(task))


@pytest.mark.parametrize("key", ["999999", "abc", "9" * 30])
def test_a_task_that_does_not_exist_answers_404(client, key):
    assert client.get(f"{LIST}{key}/change/").status_code == 404


class TestScope:
    @pytest.fixture(autouse=True)
    def _narrowed(self, settings):
        settings.AFTERSAVE = {"VISIBLE_TASKS": no_task_outside}

    def test_a_task_outside_the_scope_answers_404(self, client):
        mine, other = (in_state("due", queue=queue) for queue in ("mine", "other"))
        assert client.get(page_of(mine)).status_code == 200
        assert client.get(page_of(other)).status_code == 404

    def test_neighbours_outside_the_scope_are_not_named(self, client):
        task = enqueue("shop.do", queue="mine", after=[enqueue("hidden.before", queue="other")])
        enqueue("hidden.after", queue="other", after=[task])
        page = text_of(client.get(page_of(task)))
        assert "hidden." not in page

    def test_what_it_waits_for_outside_the_scope_has_neither_number_nor_state(self, client):
        hidden = enqueue("hidden.before", queue="other")
        task = enqueue("shop.do", queue="mine", after=[hidden])
        finish(hidden, "failed")
        page = text_of(client.get(page_of(task)))
        assert "It waits for other tasks." in page
        assert "which failed" not in page
        assert page_of(hidden) not in page


def test_all_times_of_the_reason_can_be_made_local(client):
    pause("default", "crm", by="eve")
    page = text_of(client.get(page_of(in_state("later", queue="crm"))))
    assert '<div class="af-warn"><div class="af-why">' in page
    reason = page[page.index('<div class="af-why">') :]
    assert reason[: reason.index("</p>")].count("<time datetime=") == 2


def test_what_it_waits_for_is_heard_of_in_other_queues_too(client):
    before = enqueue("shop.before", queue="before")
    task = enqueue("shop.do", queue="mine", after=[before])
    enqueue("shop.after", queue="after", after=[task])
    request = client.get(page_of(task)).wsgi_request
    shown = TaskPage(Viewer(request, admin.site), {"task_id": task.pk}, QueryDict())
    assert set(shown.queues()) == {"before", "mine", "after"}


def test_a_title_may_be_translated_when_it_is_shown(client):
    handler("shop.lazy", title=gettext_lazy("Password"))(print)
    record = Record.objects.create()
    task = in_state("due", "shop.lazy", record=record)
    in_state("due", "shop.lazy", record=record)
    address = f"{LIST}record/workload/record/{record.pk}/"
    with translation.override("de"):
        assert f"Passwort #{task.pk}" in text_of(client.get(page_of(task)))
        assert "Passwort, Passwort" in text_of(client.get(address))


class TestTheRecord:
    def test_its_title_leads_to_all_its_tasks_and_to_its_own_page(self):
        order = Order.objects.create(customer="Ann", email="ann@example.com")
        task = order.tasks.first()
        client = staff(*EVERYTHING)
        page = text_of(client.get(page_of(task)))
        assert f'<a href="/admin/tasks/task/record/orders/order/{order.pk}/">{order}</a>' in page
        assert f"/admin/orders/order/{order.pk}/change/" not in page
        client.force_login(superuser())
        assert f"/admin/orders/order/{order.pk}/change/" in text_of(client.get(page_of(task)))

    def test_one_that_is_deleted_is_named_by_its_key(self, client):
        order = Order.objects.create(customer="Ann", email="ann@example.com")
        task, key = order.tasks.first(), order.pk
        order.delete()
        assert f"Order {key} (deleted)" in text_of(client.get(page_of(task)))

    def test_one_that_cannot_say_its_name_is_named_by_its_key(self, client, monkeypatch):
        order = Order.objects.create(customer="Ann", email="ann@example.com")

        def broken(self):
            raise ValueError("no name")

        monkeypatch.setattr(Order, "__str__", broken)
        page = text_of(client.get(page_of(order.tasks.first())))
        assert f">Order {order.pk}</a>" in page


class TestTheTicket:
    def test_it_is_plain_text_without_secrets_and_with_an_address(self, client, settings):
        settings.AFTERSAVE = {"BASE_URL": "https://shop.example.com"}
        task = failed(message="password=hunter2", traceback="login(token='hunter2')")
        page = text_of(client.get(page_of(task)))
        found = re.search(r'<pre id="af-ticket-text"[^>]*>(.*?)</pre>', page, re.DOTALL)
        ticket = found[1]
        assert f"https://shop.example.com{page_of(task)}" in ticket
        assert f"shop.do #{task.pk} (shop.do): failed" in ticket
        assert "hunter2" not in ticket
        assert "<" not in ticket
        assert 'data-af-copy="af-ticket-text"' in page

    def test_it_says_why_the_task_does_not_run_with_all_times_and_their_zone(self, client):
        pause("default", "crm", by="eve", reason="CRM is down, token=abc123")
        task = in_state("later", queue="crm")
        page = text_of(client.get(page_of(task)))
        ticket = page[page.index('id="af-ticket-text"') :]
        assert f"shop.do #{task.pk} (shop.do): later, attempts 0 of 5, queue crm: It runs" in ticket
        paused = Queue.objects.get(name="crm").paused_at
        assert exact(task.run_at) in ticket
        assert exact(paused) in ticket
        assert "CRM is down, token=[redacted]" in ticket

    def test_it_names_the_record(self, client):
        order = Order.objects.create(customer="Ann", email="ann@example.com")
        page = text_of(client.get(page_of(order.tasks.first())))
        assert str(order) in page[page.index('id="af-ticket-text"') :]

    def test_it_carries_no_traceback_for_who_may_not_see_data(self):
        task = failed(message="the MESSAGE", traceback="the TRACEBACK")
        page = text_of(staff("view_task").get(page_of(task)))
        assert "TRACEBACK" not in page
        assert "MESSAGE" not in page


class TestNothingIsEdited:
    def test_there_is_no_form_to_add_change_or_delete(self, client):
        client.force_login(superuser())
        task = in_state("failed")
        for address in (f"{LIST}add/", f"{LIST}{task.pk}/delete/", page_of(task)):
            assert client.post(address, {"post": "yes", "state": "completed"}).status_code in (
                404,
                405,
            )
        task.refresh_from_db()
        assert task.state == "failed"

    def test_deleting_an_order_needs_no_right_on_its_tasks(self):
        browser = staff(name="shopkeeper")
        browser_user = browser.get("/admin/").wsgi_request.user
        browser_user.user_permissions.set(
            Permission.objects.filter(content_type__app_label="orders")
        )
        order = Order.objects.create(customer="Ann", email="ann@example.com")
        ids = list(order.tasks.values_list("pk", flat=True))
        response = browser.post(f"/admin/orders/order/{order.pk}/delete/", {"post": "yes"})
        assert response.status_code == 302
        assert not Order.objects.filter(pk=order.pk).exists()
        assert ids
        assert set(Task.objects.filter(pk__in=ids).values_list("state", "reason")) == {
            ("cancelled", "record deleted")
        }


def superuser():
    return User.objects.create_superuser("root")


def test_who_may_not_see_tasks_gets_no_page():
    assert staff("view_task_data", "retry_task").get(page_of(in_state("due"))).status_code == 403


def test_get_changes_nothing(client):
    task = in_state("failed")
    before = Task.objects.values().get(pk=task.pk)
    client.get(page_of(task))
    assert Task.objects.values().get(pk=task.pk) == before
    assert TaskEvent.objects.count() == 0


def test_every_part_of_the_page_stands_on_it(client):
    page = text_of(client.get(page_of(in_state("running"))))
    assert [part for part in TaskPage.parts if page.count(f'id="{part}"') != 1] == []
