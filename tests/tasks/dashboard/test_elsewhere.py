"""Pages of a host whose router keeps some records on another database."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from orders.models import Order
from tasks import enqueue
from tests.tasks.admin_rows import text_of

pytestmark = pytest.mark.django_db(databases=["default", "other"])

ROOT = "/admin/tasks/task/"


class OrdersElsewhere:
    def db_for_read(self, model, **hints):
        return "other" if model is Order else None

    db_for_write = db_for_read


class OrdersReadFromAReplica:
    def db_for_read(self, model, **hints):
        return "other" if model is Order else None


@pytest.fixture
def client():
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    return client


@pytest.fixture
def elsewhere(settings):
    settings.DATABASE_ROUTERS = [OrdersElsewhere()]
    order = Order.objects.create(number=417, customer="Ada", email="ada@example.com", total=1)
    assert order._state.db == "other"
    return order


def test_the_page_of_a_record_elsewhere_does_not_exist(client, elsewhere):
    assert client.get(elsewhere.tasks.admin_url()).status_code == 404


@pytest.mark.parametrize("label", ["orders.order", "order"])
def test_a_record_elsewhere_is_not_found(client, elsewhere, label):
    shown = text_of(client.get(ROOT + "search/", {"q": f"{label}/{elsewhere.pk}"}))
    assert "Nothing was found" in shown


def test_a_record_that_moved_and_left_its_tasks_is_not_called_deleted(client, settings):
    order = Order.objects.create(number=418, customer="Ada", email="ada@example.com", total=1)
    enqueue("shop.do", record=order)
    settings.DATABASE_ROUTERS = [OrdersElsewhere()]
    shown = text_of(client.get(ROOT))
    assert f"Order {order.pk}" in shown
    assert "(deleted)" not in shown


def test_records_that_are_read_from_a_replica_are_looked_for(client, settings):
    settings.DATABASE_ROUTERS = [OrdersReadFromAReplica()]
    order = Order.objects.using("other").create(
        number=419, customer="Eve", email="eve@example.com", total=1
    )
    found = client.get(ROOT + "search/", {"q": "eve@example.com"})
    assert found.status_code == 302
    assert found["Location"].endswith(f"/record/orders/order/{order.pk}/")
