from datetime import timedelta

from shop.models import Order
from tasks import on_create


@on_create(Order)
def after_checkout(order):
    reserve = order.tasks.build("inventory.reserve", priority=9)
    yield reserve
    yield order.tasks.build("email.order_confirmation", {"to": order.email}, after=[reserve])
    yield order.tasks.build("crm.sync")
    yield order.tasks.build("review.ask", delay=timedelta(days=7))
