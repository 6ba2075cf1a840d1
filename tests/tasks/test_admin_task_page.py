"""The page of one task in the admin: what it shows, and to whom."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.utils import timezone

from orders.models import Order
from tasks import enqueue
from tasks.models import LogLine, Queue, Task, TaskEvent, Worker
from tests.tasks.admin_rows import (
    EVERYTHING,
    LIST,
    failed,
    in_state,
    page_of,
    staff,
    text_of,
)

pytestmark = pytest.mark.django_db

STATES = ("waiting", "later", "due", "running", "retrying", "failed", "completed", "cancelled")


@pytest.fixture
def client():
    return staff(*EVERYTHING)


def log(task, text, **more):
    return LogLine.objects.create(
        task=task, text=text, **{"attempt": 1, "at": timezone.now(), "level": 20, **more}
    )


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_a_page(client, state):
    page = text_of(client.get(page_of(in_state(state))))
    assert ("waiting for others" if state == "waiting" else state) in page


def test_data_result_log_and_failures_are_shown_to_who_may_see_them(client):
    task = failed(message="the MESSAGE", traceback="the TRACEBACK")
    Task.objects.filter(pk=task.pk).update(data={"k": "the DATA"}, result=["the RESULT"])
    Task.objects.filter(pk=task.pk).update(context={"rule": "the CONTEXT"})
    log(task, "the LOGLINE")
    carried = ("MESSAGE", "TRACEBACK", "DATA", "RESULT", "CONTEXT", "LOGLINE")
    page = text_of(client.get(page_of(task)))
    assert [word for word in carried if f"the {word}" not in page] == []
    page = text_of(staff("view_task", name="bob").get(page_of(task)))
    assert [word for word in carried if f"the {word}" in page] == []
    assert "shop.Broken" in page
    assert "it broke" in page
    assert str(task.idempotency_key) in page


def test_a_traceback_is_folded(client):
    page = text_of(client.get(page_of(failed(traceback="Traceback (most recent call last)"))))
    before = page[: page.index("Traceback (most recent")]
    assert before.rindex("<details") > before.rindex("</details") if "</details" in before else True
    assert "<details open" not in page


def test_everything_a_task_carries_is_text_on_the_page(client):
    script = "<script>alert(1)</script>"
    task = failed(message=script, traceback=script)
    Task.objects.filter(pk=task.pk).update(data={script: script}, result=script, reason=script)
    TaskEvent.objects.create(task=task, who=script, action=script, reason=script)
    log(task, script)
    page = text_of(client.get(page_of(task)))
    assert script not in page
    assert page.count("&lt;script&gt;") >= 8


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
    log(task, "Authorization: Bearer hunter2hunter2")
    page = text_of(client.get(page_of(task)))
    assert "hunter2" not in page
    assert page.count("[redacted]") >= 7
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


def test_prerequisites_and_dependents_are_links(client):
    before = enqueue("shop.before")
    task = enqueue("shop.do", after=[before])
    after = enqueue("shop.after", after=[task])
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


def test_the_page_says_why_a_due_task_does_not_run(client):
    task = enqueue("nobody.knows", queue="crm")
    assert "No handler of the name nobody.knows is known here." in text_of(
        client.get(page_of(task))
    )
    task = enqueue("inventory.reserve", queue="crm")
    assert "No live worker serves the queue crm." in text_of(client.get(page_of(task)))
    Worker.objects.create(id=1, host="web", pid=1, threads=1, coroutines=1, queues=["crm"])
    assert "the next free worker takes it" in text_of(client.get(page_of(task)))
    Queue.objects.create(name="crm", paused_at=timezone.now())
    assert "The queue crm is paused." in text_of(client.get(page_of(task)))


def test_very_long_and_very_deep_values_are_cut_not_fatal(client):
    deep: list = []
    for _ in range(25):
        deep = [deep]
    task = in_state("completed")
    Task.objects.filter(pk=task.pk).update(data={"d": deep}, result="x" * 300_000)
    response = client.get(page_of(task))
    assert response.status_code == 200
    assert len(response.content) < 200_000
    assert "more characters" in text_of(response)


def test_a_page_reads_a_fixed_number_of_rows_whatever_its_neighbours(
    client, django_assert_max_num_queries
):
    task = enqueue("shop.do", after=[enqueue("shop.before") for _ in range(20)])
    for _ in range(20):
        enqueue("shop.after", after=[task])
    client.get(page_of(task))
    with django_assert_max_num_queries(20):
        client.get(page_of(task))


@pytest.mark.parametrize("key", ["999999", "abc", "9" * 30])
def test_a_task_that_does_not_exist_answers_404(client, key):
    assert client.get(f"{LIST}{key}/change/").status_code == 404


class TestNothingIsEdited:
    def test_there_is_no_form_to_add_change_or_delete(self, client):
        client.force_login(superuser())
        task = in_state("failed")
        assert client.get(f"{LIST}add/").status_code == 403
        assert client.post(f"{LIST}add/", {"type": "a"}).status_code == 403
        assert client.get(f"{LIST}{task.pk}/delete/").status_code == 403
        assert client.post(f"{LIST}{task.pk}/delete/", {"post": "yes"}).status_code == 403
        assert client.post(page_of(task), {"state": "completed"}).status_code == 403
        task.refresh_from_db()
        assert task.state == "failed"

    def test_delete_selected_is_gone_even_where_a_host_offers_its_own(self, client):
        client.force_login(superuser())
        task = in_state("failed")
        original = admin.site.get_action("delete_selected")
        try:
            # Without `permissions`, so Django itself would offer it to everybody.
            admin.site.add_action(lambda *given: given[2].delete(), "delete_selected")
            assert "delete_selected" not in text_of(client.get(LIST))
            chosen = {"action": "delete_selected", "index": 0, "_selected_action": task.pk}
            assert client.post(LIST, chosen).status_code == 403
        finally:
            admin.site.add_action(original, "delete_selected")
        assert Task.objects.filter(pk=task.pk).exists()

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
    from django.contrib.auth.models import User

    return User.objects.create_superuser("root")


def test_who_may_not_see_tasks_gets_no_page():
    assert staff("view_task_data", "retry_task").get(page_of(in_state("due"))).status_code == 403


def test_the_history_page_of_the_admin_works(client):
    assert client.get(f"{LIST}{in_state('due').pk}/history/").status_code == 200
