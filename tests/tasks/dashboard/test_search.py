"""The search box: what it finds, where it leads, and what it says when it finds nothing."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.urls import path

from orders.models import Order
from tasks import enqueue, handler
from tasks.admin import TaskAdminMixin
from tasks.dashboard import finding
from tasks.dashboard.finding import find_records, record_condition
from tasks.dashboard.records import key_of
from tasks.dashboard.viewer import Viewer
from tasks.models import SearchKey, Task
from tests.tasks.admin_rows import EVERYTHING, in_state, page_of, staff, text_of
from tests.workload.models import Account, ChildRecord, Parcel, Record

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

ADDRESS = "/admin/tasks/task/search/"


class OrderAdmin(admin.ModelAdmin):
    search_fields = ["number__exact", "email", "customer"]

    def get_queryset(self, request):
        return super().get_queryset(request).exclude(customer="hidden")


class AccountAdmin(admin.ModelAdmin):
    search_fields = ["name"]


class OwnTaskAdmin(TaskAdminMixin, admin.ModelAdmin):
    pass


site = admin.AdminSite("admin")
site.register(Order, OrderAdmin)
site.register(Account, AccountAdmin)
site.register(Task, OwnTaskAdmin)
urlpatterns = [path("admin/", site.urls)]


@pytest.fixture
def client():
    client = staff(*EVERYTHING)
    client.force_login(User.objects.create_superuser("root"))
    return client


def order(number="N5001", customer="Ann", email="ann@example.com"):
    return Order.objects.create(number=number, customer=customer, email=email)


def page_of_record(record):
    options = record._meta
    return f"/admin/tasks/task/record/{options.app_label}/{options.model_name}/{record.pk}/"


def found_at(client, text):
    """Where the search leads at once."""
    response = client.get(ADDRESS, {"q": text})
    assert response.status_code == 302, text_of(response)
    return response["Location"]


def listed(client, text):
    response = client.get(ADDRESS, {"q": text})
    assert response.status_code == 200
    return text_of(response)


class TestOneHitOpensAtOnce:
    @pytest.mark.parametrize(
        "text",
        [
            "#{pk}",
            " #{pk} ",
            "Task {pk}",
            "task #{pk}",
            "Do it #{pk}",
            "do it  #{pk}",
            "shop.do #{pk}",
            "tasks.task/{pk}",
        ],
    )
    def test_a_task_by_its_number_and_as_pages_name_it(self, client, text):
        handler("shop.do", title="Do it")(print)
        task = enqueue("shop.do")
        assert found_at(client, text.format(pk=task.pk)) == page_of(task)

    @pytest.mark.parametrize(
        "text", ["N5001", "Order N5001", "order N5001", "order/N5001", "ann@example.com", "Ann"]
    )
    def test_a_record_by_what_its_admin_page_searches(self, client, text):
        wanted = order()
        order(number="N7777", customer="Bob", email="bob@example.com")
        assert found_at(client, text) == page_of_record(wanted)

    @pytest.mark.parametrize("text", ["orders.order/{pk}", "Order {pk}", "order/{pk}"])
    def test_a_record_by_its_key(self, client, text):
        wanted = order()
        assert found_at(client, text.format(pk=wanted.pk)) == page_of_record(wanted)

    def test_a_record_that_has_tasks_though_its_model_declares_none(self, client):
        wanted, other = (Account.objects.create(name=name) for name in ("Acme", "Bolt"))
        assert "Nothing was found" in listed(client, "Acme")
        enqueue("shop.do", record=other)
        assert found_at(client, "Acme") == page_of_record(wanted)
        assert "<dt>Account</dt><dd>key, name</dd>" in listed(client, "")

    def test_a_record_without_an_admin_page_by_its_key(self, client):
        parcel = Parcel.objects.create()
        assert found_at(client, str(parcel.pk)) == page_of_record(parcel)
        assert found_at(client, f"parcel {parcel.pk}") == page_of_record(parcel)

    def test_a_deleted_record_by_its_key(self, client):
        wanted = order()
        address, key = page_of_record(wanted), wanted.pk
        wanted.delete()
        assert found_at(client, f"Order {key}") == address

    def test_a_record_by_a_key_that_its_handler_declared(self, client):
        @handler("shop.keyed", search=["customer.id"])
        def keyed(task):
            pass

        wanted = Record.objects.create()
        task = enqueue("shop.keyed", {"customer": {"id": "K-17"}}, record=wanted)
        SearchKey.objects.get_or_create(task=task, key="customer.id", value="K-17")
        assert found_at(client, "K-17") == page_of_record(wanted)

    def test_a_task_without_a_record_by_such_a_key(self, client):
        @handler("shop.keyed", search=["customer.id"])
        def keyed(task):
            pass

        task = enqueue("shop.keyed", {"customer": {"id": "K-17"}})
        SearchKey.objects.get_or_create(task=task, key="customer.id", value="K-17")
        assert found_at(client, "K-17") == page_of(task)


class TestSeveralHitsAreListed:
    def test_by_model_with_how_their_tasks_are(self, client):
        for number in ("N5001", "N5002"):
            in_state("failed", record=order(number=number))
        shown = listed(client, "ann@example.com")
        assert "Order N5001" in shown
        assert "Order N5002" in shown
        assert "<h2>orders</h2>" in shown.lower()
        assert "1 failed" in shown

    def test_a_number_may_be_a_task_and_a_record(self, client):
        task = enqueue("shop.do")
        wanted = order(number=str(task.pk))
        shown = listed(client, str(task.pk))
        assert f'href="{page_of(task)}"' in shown
        assert f'href="{page_of_record(wanted)}"' in shown

    def test_at_most_50_of_a_model(self, client):
        for n in range(60):
            order(number=f"N{n}")
        shown = listed(client, "ann@example.com")
        assert shown.count("/record/orders/order/") == 50
        assert "Only the first 50 are shown" in shown

    def test_at_most_50_tasks_of_a_key(self, client):
        handler("shop.keyed", search=["customer"])(print)
        for _ in range(60):
            enqueue("shop.keyed", {"customer": "K-17"})
        shown = listed(client, "K-17")
        assert shown.count('<li class="af-row" id="af-task-') == 50
        assert "Only the first 50 are shown" in shown

    def test_the_number_of_queries_does_not_grow(self, client, django_assert_max_num_queries):
        for n in range(60):
            order(number=f"N{n}")
        listed(client, "ann@example.com")
        with django_assert_max_num_queries(25):
            listed(client, "ann@example.com")


class TestNothingFound:
    def test_the_page_says_why_and_what_can_be_searched(self, client):
        shown = listed(client, "nobody@example.com")
        assert "Nothing was found for “nobody@example.com”." in shown
        assert "key, number, e-mail, customer" in shown
        assert "/admin/tasks/task/?q=nobody%40example.com" in shown

    def test_an_empty_box_is_explained(self, client):
        assert "Type what you look for" in listed(client, "  ")

    @pytest.mark.parametrize(
        "text",
        [
            "#", "0", "#0", "9" * 30, "x" * 5000, "\x00", "a\x00b", "%", "Order ", "order/", "/",
            "orders.order/", "a.b/c", "<script>alert(1)</script>", "' OR 1=1", "\ud7ff", "³",
        ],
    )  # fmt: skip
    def test_nonsense_breaks_nothing(self, client, text):
        order()
        shown = listed(client, text)
        assert "<script>alert" not in shown

    def test_a_number_that_no_key_can_be_is_none_of_a_row_with_another_rows_key(self):
        assert key_of(ChildRecord, "17") == 17
        assert key_of(ChildRecord, "9" * 30) is None

    @pytest.mark.parametrize("text", ["#{pk}", "Another #{pk}", "Order #{pk}", "Task of {pk}"])
    def test_a_number_after_another_name_is_not_the_task(self, client, text):
        task = enqueue("shop.do")
        shown = client.get(ADDRESS, {"q": text.format(pk=task.pk)})
        assert (shown.status_code == 302) == text.startswith("#")

    def test_a_model_that_takes_no_such_text_does_not_keep_others_from_being_found(
        self, client, monkeypatch
    ):
        monkeypatch.setattr(OrderAdmin, "search_fields", ["total__gte", "created__year"])
        wanted = enqueue("shop.do")
        assert "Nothing was found" in listed(client, "ann@example.com")
        assert found_at(client, f"#{wanted.pk}") == page_of(wanted)


class TestRights:
    def test_records_are_found_as_the_hosts_own_admin_shows_them(self, client):
        order(customer="hidden")
        assert "Nothing was found" in listed(client, "hidden")

    def test_who_may_not_see_orders_finds_none_by_their_customers(self):
        order()
        browser = staff(*EVERYTHING, name="clerk")
        assert "Nothing was found" in listed(browser, "Ann")
        allowed = Permission.objects.get(codename="view_order")
        User.objects.get(username="clerk").user_permissions.add(allowed)
        assert "/record/orders/order/" in found_at(browser, "Ann")

    def test_who_may_not_see_data_does_not_learn_what_it_says(self):
        @handler("shop.keyed", search=["customer.id"])
        def keyed(task):
            pass

        task = enqueue("shop.keyed", {"customer": {"id": "K-17"}})
        SearchKey.objects.get_or_create(task=task, key="customer.id", value="K-17")
        assert "Nothing was found" in listed(staff("view_task"), "K-17")
        assert found_at(staff("view_task", "view_task_data", name="bob"), "K-17") == page_of(task)

    def test_who_may_not_see_tasks_gets_no_page(self):
        assert staff("retry_task").get(ADDRESS, {"q": "1"}).status_code == 403

    def test_what_is_outside_the_scope_is_not_found(self, settings):
        settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.filter(queue="mine")}

        @handler("shop.keyed", search=["customer.id"])
        def keyed(task):
            pass

        hidden = enqueue("shop.keyed", {"customer": {"id": "K-17"}}, record=Parcel.objects.create())
        SearchKey.objects.get_or_create(task=hidden, key="customer.id", value="K-17")
        browser = staff(*EVERYTHING)
        for text in (f"#{hidden.pk}", "K-17", str(hidden.object_id), f"parcel {hidden.object_id}"):
            assert "Nothing was found" in listed(browser, text)

    def test_tasks_inside_the_scope_are_found_behind_many_outside(self, client, settings):
        settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.filter(queue="mine")}
        handler("shop.keyed", search=["customer"])(print)
        mine = enqueue("shop.keyed", {"customer": "K-17"}, queue="mine")
        for _ in range(110):
            enqueue("shop.keyed", {"customer": "K-17"})
        assert found_at(client, "K-17") == page_of(mine)


class TestTheCondition:
    """What the list of tasks uses for free words and ``record:``."""

    def tasks_of(self, text, rf):
        request = rf.get("/")
        request.user = User.objects.create_superuser(f"root{User.objects.count()}")
        return set(Task.objects.filter(record_condition(Viewer(request, site), text)))

    def test_it_is_true_of_the_tasks_of_what_is_found(self, rf):
        wanted, other = order(), order(number="N7777", email="bob@example.com")
        expected = set(wanted.tasks.all())
        assert expected
        for text in ("N5001", "order/N5001", f"orders.order/{wanted.pk}", "ann@example.com"):
            assert self.tasks_of(text, rf) == expected
        assert self.tasks_of("order/N7777", rf) == set(other.tasks.all())

    def test_of_nothing_it_is_never_true(self, rf):
        order()
        assert self.tasks_of("nobody", rf) == set()

    def test_equal_keys_of_two_models_are_both_found(self, rf):
        record = Record.objects.create()
        request = rf.get("/")
        request.user = User.objects.create_superuser("root")
        Order.objects.create(pk=record.pk, number="x", customer="c", email="e@example.com")
        found = find_records(Viewer(request, site), str(record.pk))
        assert len(found) == 2

    def test_a_record_with_many_tasks_hides_no_other_with_its_key(self, rf, monkeypatch):
        monkeypatch.setattr(finding, "ROWS_AT_ONCE", 3)
        request = rf.get("/")
        request.user = User.objects.create_superuser("root")
        records = [Record.objects.create(name="busy"), Parcel.objects.create(), order()]
        for record in records:
            for _ in range(5):
                enqueue("shop.do", record=record)
        types = [ContentType.objects.get_for_model(record) for record in records]
        Task.objects.update(object_id="A-17")
        assert find_records(Viewer(request, site), "A-17") == {one.pk: ["A-17"] for one in types}
