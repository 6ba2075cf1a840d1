from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from orders.models import Order
from tasks.models import Failure, Task

pytestmark = pytest.mark.django_db

ALARMING = "SMTPServerDisconnected: relay.internal closed the connection"
FORBIDDEN = ("task", "error", "traceback", "relay.internal", "smtp", "worker", "attempt", "failed")


def put_in_state(tasks: Any, state: str) -> None:
    final = state in ("completed", "failed", "cancelled")
    tasks.update(
        state=state,
        due=False,
        worker_id=7 if state == "running" else None,
        finished_at=timezone.now() if final else None,
        reason=ALARMING if state == "failed" else "",
        attempts=1,
    )


def read(client: Client, order: Order) -> str:
    return client.get(order.get_absolute_url()).content.decode().replace("&#x27;", "'")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("waiting", "Your confirmation follows as soon as your items are set aside."),
        ("scheduled", "Your confirmation is on its way."),
        ("running", "Your confirmation is on its way."),
        ("completed", "We have sent your confirmation to ada@post.example."),
        ("failed", "Your confirmation takes a little longer. We are looking after it."),
        ("cancelled", "We are not sending a confirmation for this order."),
    ],
)
def test_the_customer_reads_where_the_confirmation_is(
    client: Client, place: Callable[..., Order], state: str, words: str
) -> None:
    order = place()
    put_in_state(order.tasks.all().named("email.order_confirmation"), state)

    assert words in read(client, order)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("scheduled", "We're setting your items aside."),
        ("running", "We're setting your items aside."),
        ("completed", "Your items are set aside for you."),
        ("failed", "We are checking your items and will write to you soon."),
        ("cancelled", "We are not setting items aside for this order."),
    ],
)
def test_the_customer_reads_where_the_items_are(
    client: Client, place: Callable[..., Order], state: str, words: str
) -> None:
    order = place()
    put_in_state(order.tasks.all().named("inventory.reserve"), state)

    assert words in read(client, order)


@pytest.mark.parametrize("state", ["scheduled", "running", "failed", "cancelled", "completed"])
def test_errors_data_and_our_own_words_stay_with_us(
    client: Client, place: Callable[..., Order], state: str
) -> None:
    order = place()
    put_in_state(order.tasks.all(), state)
    for task in order.tasks.all():
        Failure.objects.create(**failure_of(task))

    # Its token is as random as a password, and may spell anything.
    page = read(client, order).replace(order.token, "").lower()
    assert [word for word in FORBIDDEN if word in page] == []


def test_a_finished_order_stops_asking_for_news(
    client: Client, place: Callable[..., Order]
) -> None:
    order = place()
    assert "data-pending" in read(client, order)
    put_in_state(order.tasks.all(), "completed")
    assert "data-pending" not in read(client, order)


def test_an_order_is_found_by_its_address_alone(
    client: Client, place: Callable[..., Order]
) -> None:
    order = place()

    for guess in (order.number, order.pk, order.token[:-1], order.submission):
        answer = client.get(f"/orders/{guess}/")
        assert answer.status_code == 404
        assert "This page does not exist" in answer.content.decode()
    assert len({place().token for _ in range(20)}) == 20
    assert len(order.token) >= 22


def test_the_order_page_is_for_looking_only(client: Client, place: Callable[..., Order]) -> None:
    order = place()

    assert client.post(order.get_absolute_url()).status_code == 405
    assert "no-store" in client.get(order.get_absolute_url())["Cache-Control"]
    assert 'name="robots" content="noindex"' in read(client, order)


def failure_of(task: Task) -> dict[str, Any]:
    now = timezone.now()
    return {
        "task": task,
        "attempt": 1,
        "worker_id": 7,
        "started_at": now,
        "at": now,
        "exception": "smtplib.SMTPServerDisconnected",
        "message": ALARMING,
        "traceback": f"Traceback (most recent call last): {ALARMING}",
        "fingerprint": "f",
    }
