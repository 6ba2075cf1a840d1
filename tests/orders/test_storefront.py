import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from orders.models import Order, OrderLine, Product
from tasks.models import Task

pytestmark = pytest.mark.django_db


def form_data(quantities: dict[Product, Any], **changes: Any) -> dict[str, Any]:
    return {
        "customer": "Ada Lovelace",
        "email": "ada@post.example",
        "submission": str(uuid.uuid4()),
        **{f"quantity_{product.pk}": pieces for product, pieces in quantities.items()},
        **changes,
    }


def test_an_order_is_placed_and_leads_to_its_own_page(
    client: Client, bowl: Product, lamp: Product
) -> None:
    answer = client.post("/", form_data({bowl: 2, lamp: ""}))

    order = Order.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == f"/orders/{order.token}/"
    assert order.total == Decimal("37.00")
    assert [(line.product, line.quantity, line.price) for line in order.lines.all()] == [
        (bowl, 2, Decimal("18.50"))
    ]
    assert {task.name for task in order.tasks.all()} == {
        "inventory.reserve",
        "email.order_confirmation",
        "review.ask",
    }


def test_the_confirmation_waits_until_the_items_are_set_aside(
    client: Client, bowl: Product
) -> None:
    client.post("/", form_data({bowl: 1}))

    order = Order.objects.get()
    assert order.tasks.all().named("inventory.reserve").due().exists()
    assert order.tasks.all().named("email.order_confirmation").waiting().exists()
    assert order.tasks.all().named("review.ask").later().exists()


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ("-1", "Please enter 0 or more."),
        ("21", "At most 20 in one order."),
        ("many", "Please enter a whole number."),
        ("1.5", "Please enter a whole number."),
        ("0", "Please choose at least one item."),
        ("", "Please choose at least one item."),
    ],
)
def test_an_impossible_quantity_is_explained_and_nothing_is_ordered(
    client: Client, bowl: Product, pieces: str, words: str
) -> None:
    answer = client.post("/", form_data({bowl: pieces}))

    assert words in answer.content.decode()
    assert_nothing_ordered()


def test_no_more_than_what_is_in_stock_can_be_ordered(client: Client, lamp: Product) -> None:
    assert "Only 3 left." in client.post("/", form_data({lamp: 4})).content.decode()
    Product.objects.update(stock=0)
    assert f"quantity_{lamp.pk}" not in client.get("/").content.decode()
    assert "Sold out, sorry." in client.post("/", form_data({lamp: 1})).content.decode()
    assert_nothing_ordered()


@pytest.mark.parametrize("email", ["", "ada", "ada@", "ada@post.example\nBcc: eve@post.example"])
def test_an_address_that_cannot_be_written_to_is_refused(
    client: Client, bowl: Product, email: str
) -> None:
    answer = client.post("/", form_data({bowl: 1}, email=email))

    assert 'id="id_email_error"' in answer.content.decode()
    assert_nothing_ordered()


@pytest.mark.parametrize("submission", ["", "42", "\x00", "x" * 10_000])
def test_a_form_without_a_proper_submission_makes_no_order(
    client: Client, bowl: Product, submission: str
) -> None:
    answer = client.post("/", form_data({bowl: 1}, submission=submission))

    assert answer.status_code == 200
    assert_nothing_ordered()


def test_what_was_typed_comes_back_as_text_not_as_markup(client: Client, bowl: Product) -> None:
    page = client.post("/", form_data({bowl: 0}, customer="<script>x</script>")).content.decode()

    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<script>x" not in page


def test_a_corrected_form_still_makes_one_order(client: Client, bowl: Product) -> None:
    wrong = form_data({bowl: 1}, email="ada@")
    page = client.post("/", wrong).content.decode()

    assert re.search(f'name="submission" value="{wrong["submission"]}"', page)
    client.post("/", {**wrong, "email": "ada@post.example"})
    assert Order.objects.count() == 1


def test_the_same_form_sent_twice_makes_one_order(client: Client, lamp: Product) -> None:
    data = form_data({lamp: 3})
    first = client.post("/", data)
    Product.objects.update(stock=0)
    second = client.post("/", data)

    assert second["Location"] == first["Location"]
    assert Order.objects.count() == 1
    assert Task.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_the_same_form_sent_twice_at_once_makes_one_order(bowl: Product) -> None:
    data = form_data({bowl: 2})

    def send(_: int) -> str:
        try:
            return Client().post("/", data)["Location"]
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        places = set(threads.map(send, range(8)))

    assert len(places) == 1
    assert Order.objects.count() == 1
    assert OrderLine.objects.count() == 1
    assert Task.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_orders_placed_at_once_get_different_numbers(bowl: Product) -> None:
    def send(_: int) -> None:
        try:
            Client().post("/", form_data({bowl: 1}))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(send, range(12)))

    numbers = {order.number for order in Order.objects.all()}
    assert len(numbers) == 12
    assert min(map(int, numbers)) >= 1001


def test_a_form_from_elsewhere_is_refused(bowl: Product) -> None:
    answer = Client(enforce_csrf_checks=True).post("/", form_data({bowl: 1}))

    assert answer.status_code == 403
    assert "Please send the form again" in answer.content.decode()
    assert_nothing_ordered()


def test_looking_changes_nothing_and_is_not_kept_by_the_browser(
    client: Client, bowl: Product
) -> None:
    pages = [client.get("/") for _ in range(2)]

    assert "no-store" in pages[0]["Cache-Control"]
    found = [
        re.findall('name="submission" value="([^"]+)"', page.content.decode()) for page in pages
    ]
    assert found[0] != found[1]
    assert_nothing_ordered()


def test_the_pages_work_without_inline_script_or_style(client: Client, bowl: Product) -> None:
    client.post("/", form_data({bowl: 1}))
    for address in ("/", Order.objects.get().get_absolute_url(), "/orders/nobody/"):
        page = client.get(address).content.decode()
        assert "<style" not in page
        assert " style=" not in page
        assert not re.search(r"<script(?![^>]* src=)", page)
        assert not re.search(r"\son[a-z]+=", page)


def assert_nothing_ordered() -> None:
    assert not Order.objects.exists()
    assert not Task.objects.exists()
