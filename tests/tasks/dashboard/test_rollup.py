"""Tasks in the host's own change lists: the column and the filter."""

import re
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.urls import path

from tasks import enqueue
from tasks.admin import FailedTasksFilter, TaskAdminMixin, TaskRollupMixin, rollup
from tasks.dashboard.rollup import rollup_html, rollup_text
from tasks.models import Task
from tests.tasks.admin_rows import in_state, messages_of, staff, text_of
from tests.workload.models import (
    Article,
    ChildRecord,
    Day,
    Moment,
    Parcel,
    Price,
    ProxyRecord,
    Record,
    Voucher,
)

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class WithTasks(TaskRollupMixin, admin.ModelAdmin):
    list_display = ["__str__", "tasks_rollup"]
    list_filter = [FailedTasksFilter]


class OwnTaskAdmin(TaskAdminMixin, admin.ModelAdmin):
    pass


class Edited(WithTasks):
    list_display = ["pk", "name", "tasks_rollup"]
    list_editable = ["name"]


#: Models whose keys are no numbers, and four keys of each.
KEYS = [
    (Price, [Decimal("0.50"), Decimal("17.05"), Decimal("123456.78"), Decimal("-3.00")]),
    (Day, [date(2026, month, 28) for month in range(1, 5)]),
    (Moment, [datetime(2026, 3, 29, hour, 30, 0, 250_000, tzinfo=UTC) for hour in range(4)]),
    (Voucher, [f"voucher-x{number}" for number in range(4)]),
]


site, bare = admin.AdminSite("admin"), admin.AdminSite("bare")
for model in (Article, Record, ProxyRecord, ChildRecord, Parcel, *(model for model, _keys in KEYS)):
    site.register(model, WithTasks)
site.register(Task, OwnTaskAdmin)
bare.register(Record, Edited)
urlpatterns = [path("admin/", site.urls), path("bare/", bare.urls)]


@pytest.fixture
def client():
    client = staff()
    client.force_login(User.objects.create_superuser("root"))
    return client


def listed(client, model, query="", root="/admin/"):
    response = client.get(f"{root}workload/{model._meta.model_name}/{query}")
    assert response.status_code == 200
    return text_of(response)


def cells(shown):
    found = re.findall(r'field-tasks_rollup">(.*?)</td>', shown, re.DOTALL)
    return [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in found]


def keys(response):
    return {str(record.pk) for record in response.context["cl"].result_list}


class TestTheColumn:
    def test_it_sums_up_each_rows_tasks(self, client):
        broken, fine, bored = (Record.objects.create(name=name) for name in "abc")
        for state in ("completed", "completed", "failed", "later"):
            in_state(state, record=broken)
        in_state("completed", record=fine)
        shown = listed(client, Record)
        assert cells(shown) == ["–", "✓ 1 of 1 done", "2 of 4 done ✕ 1 failed"]
        assert f'href="/admin/tasks/task/record/workload/record/{broken.pk}/"' in shown
        assert f"/record/{bored.pk}/" not in shown.replace(f"workload/record/{bored.pk}/", "")

    def test_it_needs_one_query_a_page(self, client, django_assert_max_num_queries):
        for n in range(30):
            in_state("failed", record=Record.objects.create(name=str(n)))
        listed(client, Record)
        with django_assert_max_num_queries(8) as captured:
            listed(client, Record)
        assert sum("tasks_task" in query["sql"] for query in captured) == 1

    @pytest.mark.parametrize("model", [Parcel, ProxyRecord, ChildRecord])
    def test_it_works_for_any_kind_of_key_and_for_children(self, client, model):
        in_state("failed", record=model.objects.create())
        assert cells(listed(client, model)) == ["0 of 1 done ✕ 1 failed"]

    def test_a_key_that_no_task_can_keep_does_not_break_the_list(self, client):
        in_state("failed", record=Article.objects.create(slug="short"))
        Article.objects.create(slug="x" * 100)
        assert sorted(cells(listed(client, Article))) == ["0 of 1 done ✕ 1 failed", "–"]

    def test_a_list_that_is_edited_in_place_has_it_too(self, client):
        record = Record.objects.create(name="before")
        in_state("failed", record=record)
        shown = listed(client, Record, root="/bare/")
        assert cells(shown) == ["0 of 1 done ✕ 1 failed"]
        assert "/tasks/task/" not in shown  # that site has no pages of tasks
        form = {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "form-0-id": record.pk}
        form |= {"form-0-name": "after", "_save": "Save"}
        assert client.post("/bare/workload/record/", form).status_code == 302
        record.refresh_from_db()
        assert record.name == "after"

    def test_who_may_not_see_tasks_sees_none(self):
        in_state("failed", record=Record.objects.create(name="x"))
        browser = staff(name="clerk")
        allowed = Permission.objects.get(codename="view_record")
        User.objects.get(username="clerk").user_permissions.add(allowed)
        shown = listed(browser, Record)
        assert cells(shown) == ["–"]
        assert "Has failed tasks" not in shown
        assert keys(browser.get("/admin/workload/record/?tasks=failed"))

    def test_tasks_outside_the_scope_do_not_count(self, client, settings):
        settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.filter(queue="mine")}
        seen, unseen = (Record.objects.create(name=name) for name in "ab")
        in_state("failed", record=seen, queue="mine")
        in_state("failed", record=unseen)
        assert cells(listed(client, Record)) == ["–", "0 of 1 done ✕ 1 failed"]
        assert keys(client.get("/admin/workload/record/?tasks=failed")) == {str(seen.pk)}

    def test_an_empty_list_has_no_query_for_it(self, client, django_assert_max_num_queries):
        assert cells(listed(client, Record)) == []


class TestTheFilter:
    @pytest.mark.parametrize("model", [Record, ProxyRecord, ChildRecord, Parcel])
    def test_it_leaves_the_records_that_have_failed_tasks(self, client, model):
        broken, fine, bored = (model.objects.create() for _ in range(3))
        in_state("failed", record=broken)
        in_state("failed", record=broken)
        in_state("completed", record=fine)
        enqueue("shop.do", record=bored)
        response = client.get(f"/admin/workload/{model._meta.model_name}/?tasks=failed")
        assert keys(response) == {str(broken.pk)}
        everything = client.get(f"/admin/workload/{model._meta.model_name}/")
        assert keys(everything) == {str(record.pk) for record in (broken, fine, bored)}

    @pytest.mark.parametrize(
        ("model", "given"), KEYS, ids=lambda value: getattr(value, "__name__", "")
    )
    @pytest.mark.parametrize("compared", [2, 10_000])
    def test_keys_of_any_kind_are_compared(self, client, model, given, compared, monkeypatch):
        monkeypatch.setattr(rollup, "MOST_COMPARED", compared)
        records = [model.objects.create(pk=key) for key in given]
        in_state("completed", record=records[0])
        for record in records[1:]:
            in_state("failed", record=record)
        response = client.get(f"/admin/workload/{model._meta.model_name}/?tasks=failed")
        broken = {str(record.pk) for record in records[1:]}
        if not messages_of(response):
            assert keys(response) == broken
        else:
            # What is missing is missing because of a limit, and that is said.
            assert model in (Moment, Voucher)
            assert compared == 2
            assert "more than 2 of their tasks are failed" in messages_of(response)[0]
            assert keys(response) == {str(record.pk) for record in records[2:]}

    def test_equal_keys_of_other_models_do_not_count(self, client):
        record = Record.objects.create()
        task = in_state("failed", record=Parcel.objects.create())
        Task.objects.filter(pk=task.pk).update(object_id=str(record.pk))
        assert keys(client.get("/admin/workload/record/?tasks=failed")) == set()

    def test_it_is_offered(self, client):
        assert '?tasks=failed">Has failed tasks' in listed(client, Record)


class TestTheWords:
    def test_what_needs_somebody_comes_first(self):
        counts = {"completed": 3, "later": 2, "failed": 1, "cancelled": 1}
        assert rollup_text(counts) == "3 of 7 done, 1 failed, 2 later, 1 cancelled"
        assert rollup_text({}) == ""
        assert rollup_html({}) == ""

    def test_django_accepts_the_mixin(self):
        assert WithTasks(Record, site).check() == []
        assert Edited(Record, bare).check() == []
