"""Which tasks an order gets."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings

from orders.models import Order
from tasks import on_create


@on_create(Order)
def after_checkout(order: Order) -> Iterator[Any]:
    reserve = order.tasks.build("inventory.reserve", priority=9)
    yield reserve
    yield order.tasks.build("email.order_confirmation", {"to": order.email}, after=[reserve])
    if settings.CRM_URL:
        yield order.tasks.build("crm.sync")
    yield order.tasks.build("review.ask", delay=timedelta(days=7))
