import asyncio
import smtplib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from orders.demo.crm import REFUSED_DOMAIN, SLOW_DOMAIN, FakeCrm
from orders.handlers import (
    ask_for_review,
    check_recipient,
    reserve,
    send_confirmation,
    sync_with_crm,
)
from orders.models import Order, Product
from tasks import Cancel, Fail, Retry
from tasks.models import Task
from tests.services.smtp import Mailbox

pytestmark = pytest.mark.django_db
Place = Callable[..., Order]


def the_task(order: Order, name: str) -> Task:
    return order.tasks.all().named(name).get()


def stock_of(product: Product) -> int:
    return Product.objects.get(pk=product.pk).stock


@pytest.fixture
def mailbox(smtp_server: Mailbox, settings: Any) -> Mailbox:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_PORT = smtp_server.port
    settings.DEFAULT_FROM_EMAIL = "The shop <shop@shop.example>"
    return smtp_server


def test_items_leave_the_shelf_once_however_often_it_is_done(place: Place, bowl: Product) -> None:
    order = place({bowl: 2})
    task = the_task(order, "inventory.reserve")

    assert reserve(task) == {"reserved": 1}
    assert reserve(task) == {"reserved": 0}
    assert stock_of(bowl) == 28
    assert Order.objects.get().status == Order.Status.RESERVED


@pytest.mark.parametrize("to", ["", "ann", None, 5, ["ann@example.com"], {"to": "a@b.example"}])
def test_what_is_no_address_is_refused_in_plain_words(to: Any) -> None:
    with pytest.raises(ValueError, match="must be an e-mail address"):
        check_recipient({"to": to})


def test_when_one_item_is_sold_out_nothing_is_taken(
    place: Place, bowl: Product, lamp: Product
) -> None:
    order = place({bowl: 2, lamp: 3})
    Product.objects.filter(pk=lamp.pk).update(stock=2)

    with pytest.raises(Fail, match="Lamp is sold out: 3 wanted"), transaction.atomic():
        reserve(the_task(order, "inventory.reserve"))

    assert (stock_of(bowl), stock_of(lamp)) == (30, 2)
    assert Order.objects.get().status == Order.Status.PLACED


@pytest.mark.django_db(transaction=True)
def test_of_two_orders_for_the_last_pieces_one_gets_them(place: Place, lamp: Product) -> None:
    tasks = [the_task(place({lamp: 2}), "inventory.reserve") for _ in range(4)]

    def attempt(task: Task) -> bool:
        try:
            with transaction.atomic():
                reserve(task)
        except Fail:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(4) as threads:
        won = list(threads.map(attempt, tasks))

    assert sum(won) == 1
    assert stock_of(lamp) == 1


def test_nothing_is_set_aside_for_a_withdrawn_order(place: Place, bowl: Product) -> None:
    order = place()
    Order.objects.update(status=Order.Status.WITHDRAWN)

    with pytest.raises(Cancel):
        reserve(the_task(order, "inventory.reserve"))
    assert stock_of(bowl) == 30


def test_the_confirmation_reaches_the_customers_mailbox(
    place: Place, mailbox: Mailbox, settings: Any
) -> None:
    settings.SITE_URL = "https://shop.example"
    order = place(customer="Zoë & Søn")
    result = send_confirmation(the_task(order, "email.order_confirmation"))

    [letter] = mailbox.sent_to("ada@post.example")
    text = letter.get_content()
    assert letter["Subject"] == f"Your order {order.number}"
    assert letter["Message-ID"] == result["message_id"]
    assert "Hello Zoë & Søn," in text
    assert "2 x Bowl, EUR 37.00" in text
    assert f"https://shop.example/orders/{order.token}/" in text


def test_a_confirmation_sent_again_is_recognisable_as_the_same_letter(
    place: Place, mailbox: Mailbox
) -> None:
    task = the_task(place(), "email.order_confirmation")
    send_confirmation(task)
    send_confirmation(Task.objects.get(pk=task.pk))

    first, second = mailbox.sent_to("ada@post.example")
    assert first["Message-ID"] == second["Message-ID"] == f"<{task.idempotency_key}@shop.example>"


def test_a_refused_mailbox_is_an_error_the_worker_sees(place: Place, mailbox: Mailbox) -> None:
    mailbox.refuse.add("ada@post.example")

    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send_confirmation(the_task(place(), "email.order_confirmation"))
    assert mailbox.messages == []


def test_a_week_later_the_customer_is_asked(place: Place, mailbox: Mailbox) -> None:
    ask_for_review(the_task(place(), "review.ask"))

    assert [letter["Subject"] for letter in mailbox.messages] == ["How do you like your order?"]


def test_the_crm_is_told_about_an_order(place: Place, crm: FakeCrm) -> None:
    order = place()

    assert tell_the_crm(order) == {"customer_id": f"C-{order.number}"}
    assert crm.calls == {f"/orders/{order.number}": 1}


def test_a_busy_crm_is_asked_again_when_it_says(place: Place, crm: FakeCrm) -> None:
    order = place(email=f"ada@{SLOW_DOMAIN}")

    with pytest.raises(Retry) as asked:
        tell_the_crm(order)
    assert asked.value.after == crm.retry_after
    assert tell_the_crm(order)


def test_an_order_the_crm_refuses_is_given_up(place: Place, crm: FakeCrm) -> None:
    order = place(email=f"ada@{REFUSED_DOMAIN}")

    with pytest.raises(Fail, match="HTTP 422"):
        tell_the_crm(order)


def test_without_a_crm_nobody_tells_it(place: Place, settings: Any) -> None:
    settings.CRM_URL = ""

    assert not place().tasks.all().named("crm.sync").exists()


def test_a_rolled_back_order_leaves_nothing(place: Place, bowl: Product) -> None:
    @transaction.atomic
    def place_and_stumble() -> None:
        place()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place_and_stumble()

    assert not Order.objects.exists()
    assert not Task.objects.exists()


def tell_the_crm(order: Order) -> dict[str, Any]:
    task = the_task(order, "crm.sync")
    # A worker loads the record before an async handler starts.
    assert task.record == order
    return asyncio.run(without_log(task))


async def without_log(task: Task) -> dict[str, Any]:
    task._execution = Silent()
    return await sync_with_crm(task)


class Silent:
    lost = False

    def log(self, text: str, level: int) -> None: ...

    def progress(self, done: float, total: float | None) -> None: ...
