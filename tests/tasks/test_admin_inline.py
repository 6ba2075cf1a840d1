"""The newest tasks of a record, on the record's own admin page."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.core import checks
from django.urls import path

from tasks import build, enqueue, enqueue_many
from tasks.admin import TaskAdmin, TaskAdminMixin, TaskInline
from tasks.models import Task
from tests.tasks.admin_rows import in_state, staff, text_of
from tests.workload.models import Article, Record

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class RecordAdmin(admin.ModelAdmin):
    inlines = [TaskInline]


class OwnTaskAdmin(TaskAdminMixin, admin.ModelAdmin):
    pass


site, without_tasks = admin.AdminSite("admin"), admin.AdminSite("bare")
site.register([Record, Article], RecordAdmin)
site.register(Task, OwnTaskAdmin)
without_tasks.register(Record, RecordAdmin)
urlpatterns = [path("admin/", site.urls), path("bare/", without_tasks.urls)]

RECORDS = "/admin/workload/record/"


@pytest.fixture
def client():
    client = staff("view_task")
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def record():
    return Record.objects.create(name="mine")


def page(client, record, root=RECORDS):
    response = client.get(f"{root}{record.pk}/change/")
    assert response.status_code == 200
    return text_of(response)


def test_django_accepts_it_as_an_inline():
    assert RecordAdmin(Record, site).check() == []
    assert TaskAdmin(Task, site).check() == []
    assert checks.run_checks(tags=["admin"]) == []


def test_it_shows_the_newest_20_of_this_record_alone(client, record):
    enqueue_many([build("shop.do", record=record) for _ in range(25)])
    other = enqueue("shop.do", record=Record.objects.create(name="other"))
    mine = [task.pk for task in record.tasks.order_by("-pk")]
    shown = page(client, record)
    assert [pk for pk in mine if f"/tasks/task/{pk}/change/" in shown] == mine[:20]
    assert f"/tasks/task/{other.pk}/change/" not in shown
    assert "The newest 20 tasks." in shown
    assert f"/admin/tasks/task/record/workload/record/{record.pk}/" in shown


def test_its_link_to_all_tasks_leads_to_all_tasks(client, record):
    tasks = enqueue_many([build("shop.do", record=record) for _ in range(25)])
    address = f"/admin/tasks/task/record/workload/record/{record.pk}/"
    assert address in page(client, record)
    listed = text_of(client.get(address)) + text_of(client.get(f"{address}?before={tasks[5].pk}"))
    assert all(f"/task/{task.pk}/change/" in listed for task in tasks)


def test_tasks_outside_the_viewers_scope_are_not_shown(client, record, settings):
    settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.filter(queue="mine")}
    enqueue("shop.seen", queue="mine", record=record)
    enqueue("shop.hidden", record=record)
    shown = page(client, record)
    assert "shop.seen" in shown
    assert "shop.hidden" not in shown


def test_it_has_no_form_fields(client, record):
    enqueue("shop.do", record=record)
    shown = page(client, record)
    group = shown[shown.index('id="aftersave-tasks-group"') :]
    group = group[: group.index("submit-row")]
    assert "<input" not in group
    assert "TOTAL_FORMS" not in shown


def test_saving_the_record_works_with_it(client, record):
    task = enqueue("shop.do", record=record)
    response = client.post(f"{RECORDS}{record.pk}/change/", {"name": "renamed"})
    assert response.status_code == 302
    record.refresh_from_db()
    assert record.name == "renamed"
    assert Task.objects.get().pk == task.pk


def test_adding_a_record_works_with_it(client):
    assert "Tasks appear here once this is saved." in text_of(client.get(f"{RECORDS}add/"))
    response = client.post(f"{RECORDS}add/", {"name": "new"})
    assert response.status_code == 302
    assert Record.objects.filter(name="new").exists()


def test_a_form_with_an_error_is_shown_again_with_it(client, record):
    enqueue("shop.do", record=record)
    response = client.post(f"{RECORDS}{record.pk}/change/", {"name": "x" * 101})
    assert response.status_code == 200
    assert "shop.do" in text_of(response)


def test_forged_fields_for_it_change_nothing(client, record):
    task = in_state("failed", record=record)
    forged = {"aftersave-tasks-TOTAL_FORMS": "1", "aftersave-tasks-INITIAL_FORMS": "1"}
    forged |= {"aftersave-tasks-0-id": task.pk, "aftersave-tasks-0-state": "completed"}
    forged |= {"aftersave-tasks-0-DELETE": "on"}
    client.post(f"{RECORDS}{record.pk}/change/", {"name": "x", **forged})
    assert Task.objects.get(pk=task.pk).state == "failed"


def test_a_record_without_tasks_says_so(client, record):
    assert "This record has no tasks" in page(client, record)


def test_a_record_whose_key_no_task_can_keep_has_a_page(client):
    long = Article.objects.create(slug="x" * 100)
    assert "This record has no tasks" in page(client, long, "/admin/workload/article/")


def test_who_may_not_see_tasks_does_not_see_it(record):
    enqueue("shop.do", record=record)
    browser = staff()
    user = browser.get("/admin/").wsgi_request.user
    grant_records(user)
    assert "shop.do" not in page(browser, record)
    assert "aftersave-tasks" not in page(browser, record)
    changed = browser.post(f"{RECORDS}{record.pk}/change/", {"name": "renamed"})
    assert changed.status_code == 302


def grant_records(user):
    from django.contrib.auth.models import Permission

    user.user_permissions.add(
        *Permission.objects.filter(content_type__app_label="workload", codename__endswith="_record")
    )


def test_a_site_without_pages_of_tasks_shows_them_without_links(client, record):
    task = enqueue("shop.do", record=record)
    shown = page(client, record, "/bare/workload/record/")
    assert f"#{task.pk}" in shown
    assert f"/task/{task.pk}/" not in shown


def test_it_needs_one_query_for_the_tasks(client, record, django_assert_max_num_queries):
    enqueue_many([build("shop.do", record=record) for _ in range(25)])
    page(client, record)
    with django_assert_max_num_queries(8) as captured:
        page(client, record)
    assert sum('FROM "tasks_task"' in q["sql"].replace("`", '"') for q in captured) == 1


def test_what_its_tasks_say_is_escaped_and_redacted(client, record):
    task = in_state("failed", record=record)
    Task.objects.filter(pk=task.pk).update(reason="<script>x</script> password=hunter2")
    shown = page(client, record)
    assert "<script>x" not in shown
    assert "hunter2" not in shown
