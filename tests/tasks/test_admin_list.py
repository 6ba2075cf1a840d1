"""The list of tasks in the admin."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders.models import Order
from tasks import build, enqueue, enqueue_many, handler
from tasks.admin.changelist import LAST_PAGE
from tasks.models import Queue, Task
from tests.tasks.admin_rows import LIST, in_state, shown_ids, staff, text_of
from tests.workload.models import Record

pytestmark = pytest.mark.django_db

STATES = ("waiting", "later", "due", "running", "retrying", "failed", "completed", "cancelled")


@pytest.fixture
def client():
    return staff("view_task")


def order(**values):
    return Order.objects.create(customer="Ann", email="ann@example.com", **values)


def tasks_of(records):
    return enqueue_many([build("shop.do", record=record) for record in records])


def queries_of(client, address):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        response = client.get(address)
    assert response.status_code == 200
    return [query["sql"] for query in captured], response


def test_a_page_of_100_rows_needs_as_many_queries_as_one_of_10(client, monkeypatch):
    monkeypatch.setattr(admin.site.get_model_admin(Task), "list_per_page", 100)
    tasks_of([Record.objects.create(name=f"r{n}") for n in range(5)])
    orders = [order() for _ in range(5)]
    tasks_of(orders)
    ContentType.objects.clear_cache()
    few, response = queries_of(client, f"{LIST}?q=shop.do")
    assert len(shown_ids(response)) == 10
    tasks_of([Record.objects.create(name=f"r{n}") for n in range(45)])
    tasks_of([order() for _ in range(45)])
    ContentType.objects.clear_cache()
    many, response = queries_of(client, f"{LIST}?q=shop.do")
    assert len(shown_ids(response)) == 100
    assert len(many) == len(few)


def test_no_page_counts_or_reads_payloads(client):
    tasks_of([order() for _ in range(3)])
    enqueue("shop.big", {"secret": "payload"})
    for address in (LIST, f"{LIST}?state=due", f"{LIST}?q=shop.do", f"{LIST}?p=2"):
        for sql in queries_of(client, address)[0]:
            assert "COUNT(" not in sql.upper()
            assert "DISTINCT" not in sql.upper()
            assert '"tasks_task"."data"' not in sql
            assert "`tasks_task`.`data`" not in sql


def test_pages_follow_each_other_without_gap_or_overlap(client, monkeypatch):
    monkeypatch.setattr(admin.site.get_model_admin(Task), "list_per_page", 4)
    made = [task.pk for task in enqueue_many([build("shop.do") for _ in range(8)])]
    first, second = client.get(LIST), client.get(f"{LIST}?p=2")
    assert shown_ids(first) + shown_ids(second) == sorted(made, reverse=True)
    assert "Older" in text_of(first)
    assert "Newer" not in text_of(first)
    assert "Older" not in text_of(second)
    assert "Newer" in text_of(second)


@pytest.mark.parametrize("page", ["99", "999999999999999999999", "-3", "0", "x"])
def test_a_page_far_out_or_nonsense_is_no_error(client, page):
    enqueue("shop.do")
    response = client.get(f"{LIST}?p={page}")
    assert response.status_code == 200
    assert len(shown_ids(response)) == (0 if page.startswith("99") else 1)


def test_the_farthest_page_is_bounded(client):
    queries, _ = queries_of(client, f"{LIST}?p=100000000")
    offset = (LAST_PAGE - 1) * admin.site.get_model_admin(Task).list_per_page
    assert any(str(offset) in sql for sql in queries)


@pytest.mark.parametrize("state", STATES)
def test_each_state_is_a_word_and_a_filter(client, state):
    wanted = in_state(state)
    for other in STATES:
        if other != state:
            in_state(other)
    response = client.get(f"{LIST}?state={state}")
    assert wanted.pk in shown_ids(response)
    assert {Task.objects.get(pk=pk).shown_state for pk in shown_ids(response)} == {state}
    word = "waiting for others" if state == "waiting" else state
    assert 'aria-hidden="true">' in text_of(response)
    assert f"</span>{word}</span>" in text_of(response)


def test_queues_to_filter_by_come_from_the_queue_table(client):
    Queue.objects.create(name="crm")
    enqueue("shop.do", queue="crm")
    enqueue("shop.do", queue="unmet")
    response = client.get(f"{LIST}?queue=crm")
    assert len(shown_ids(response)) == 1
    assert "?queue=crm" in text_of(client.get(LIST))
    assert "?queue=unmet" not in text_of(client.get(LIST))


def test_the_last_hour_leaves_out_older_tasks(client):
    old, new = enqueue("shop.do"), enqueue("shop.do")
    Task.objects.filter(pk=old.pk).update(created_at="2020-01-01T00:00:00Z")
    assert shown_ids(client.get(f"{LIST}?created=hour")) == [new.pk]


@pytest.mark.parametrize("query", ["state=nonsense", "created=nonsense"])
def test_an_unknown_filter_value_leads_back_to_the_whole_list(client, query):
    assert client.get(f"{LIST}?{query}").status_code == 302


@pytest.mark.parametrize(
    "lookup", ["data__password=x", "reason__contains=x", "id=1", "queue__in=a"]
)
def test_no_column_can_be_probed_by_address(client, lookup):
    enqueue("shop.do", {"password": "x"})
    assert client.get(f"{LIST}?{lookup}").status_code == 400


def test_sorting_by_address_changes_nothing(client):
    made = [enqueue("shop.do").pk for _ in range(3)]
    assert shown_ids(client.get(f"{LIST}?o=1")) == made[::-1]


class TestSearch:
    @pytest.fixture
    def order(self):
        return order()

    def found(self, text):
        client = staff("view_task", name=f"finder{User.objects.count()}")
        client.force_login(User.objects.create_superuser(f"root{User.objects.count()}"))
        return set(shown_ids(client.get(LIST, {"q": text})))

    def own(self, order):
        return set(order.tasks.values_list("pk", flat=True))

    def test_a_number_finds_the_task_and_the_record_with_that_key(self, order):
        task = enqueue("shop.do")
        assert task.pk in self.found(str(task.pk))
        assert task.pk in self.found(f"#{task.pk}")
        assert self.own(order) <= self.found(str(order.pk))

    def test_a_key_that_is_no_number_finds_the_record(self):
        task = enqueue("shop.do")
        key = ContentType.objects.get_for_model(Record)
        Task.objects.filter(pk=task.pk).update(content_type=key, object_id="A-17")
        assert self.found("A-17") == {task.pk}

    def test_a_name_finds_its_tasks_alone(self):
        task, longer, _ = enqueue("mail.send"), enqueue("mail.send.now"), enqueue("other.send")
        assert self.found("mail.send") == {task.pk}
        assert self.found("mail.") == {task.pk, longer.pk}
        assert self.found("mail.*") == {task.pk, longer.pk}
        assert self.found("mail.send.*") == {longer.pk}

    def test_a_title_finds_the_tasks_of_its_handler(self):
        handler("cake.bake", title="Bake a cake")(lambda task: None)
        task = enqueue("cake.bake")
        enqueue("cake.eat")
        assert self.found("bake a") == {task.pk}

    def test_model_and_key_find_the_record_whether_registered_or_not(self, order):
        record = Record.objects.create(name="plain")
        task = enqueue("shop.do", record=record)
        assert self.found(f"Order {order.pk}") >= self.own(order)
        assert self.found(f"orders.order/{order.pk}") == self.own(order)
        assert self.found(f"record {record.pk}") == {task.pk}

    def test_what_the_records_own_admin_page_finds_is_found(self, order):
        other = Order.objects.create(customer="Bob", email="bob@example.com")
        assert self.found("ann@example.com") == self.own(order)
        assert self.found(f"Order {other.number}") >= self.own(other)

    def test_records_one_may_not_see_are_not_searched(self, order, client):
        assert shown_ids(client.get(LIST, {"q": "ann@example.com"})) == []

    @pytest.mark.parametrize(
        "text", ["nothing like it", "%", "\x00", "9" * 40, "٣", "a.b.c.", "/", "orders.order/", "²"]
    )
    def test_strange_texts_find_nothing_and_break_nothing(self, order, text):
        assert self.found(text) <= {pk for pk in self.own(order) if text == "\x00"}

    def test_a_search_that_finds_nothing_says_what_can_be_found(self, client):
        enqueue("shop.do")
        assert "No task matches “&lt;b&gt;”" in text_of(client.get(LIST, {"q": "<b>"}))


class TestRecords:
    def test_a_record_with_a_page_is_a_link_for_who_may_see_it(self, client):
        one = order()
        address = f'href="/admin/orders/order/{one.pk}/change/'
        assert address not in text_of(client.get(LIST))
        assert f"Order {one.number}" in text_of(client.get(LIST))
        client.force_login(User.objects.create_superuser("root"))
        assert address in text_of(client.get(LIST))

    def test_a_deleted_record_is_named(self, client):
        one = order()
        key = one.pk
        one.delete()
        assert f"Order {key} (deleted)" in text_of(client.get(LIST))

    def test_a_str_that_raises_does_not_break_the_page(self, client, monkeypatch):
        one = order()
        monkeypatch.setattr(Order, "__str__", lambda self: 1 / 0)
        assert f"Order {one.pk}" in text_of(client.get(LIST))

    def test_a_key_or_model_that_makes_no_sense_does_not_break_the_page(self, client):
        strange, stale = enqueue("shop.do"), enqueue("shop.do")
        model = ContentType.objects.get_for_model(Order)
        Task.objects.filter(pk=strange.pk).update(content_type=model, object_id="abc")
        Task.objects.filter(pk=stale.pk).update(content_type_id=987654, object_id="1")
        page = text_of(client.get(LIST))
        assert "Order abc (deleted)" in page
        assert "Record 1 (deleted)" in page

    def test_what_a_record_and_a_task_say_is_escaped(self, client, monkeypatch):
        order()
        task = enqueue("shop.do")
        Task.objects.filter(pk=task.pk).update(reason="<script>r</script>")
        monkeypatch.setattr(Order, "__str__", lambda self: "<script>o</script>")
        for browser in (client, staff("view_task", name="bob")):
            page = text_of(browser.get(LIST))
            assert "<script>r" not in page
            assert "<script>o" not in page
            assert "&lt;script&gt;r" in page


def test_an_empty_list_says_what_will_come(client):
    assert "There are no tasks yet." in text_of(client.get(LIST))
    assert "No task matches these filters." in text_of(client.get(f"{LIST}?state=failed"))


def test_who_may_not_see_tasks_gets_no_list():
    assert staff("retry_task").get(LIST).status_code == 403
