"""Keeps a demo that runs for days small and interesting."""

from pathlib import Path

from django.db import transaction

from orders.models import Order, Product
from tasks import enqueue
from tasks.models import Task

MOST_ORDERS = 5_000
MOST_MAILS = 1_000
CHUNK = 200
LOW, FULL = 40, 250
UNHANDLED = "legacy.export"


def tidy(mails: Path) -> None:
    """Fill the shelf, forget the oldest orders and mails, leave a task that nobody handles."""
    fill_shelf()
    while forget_oldest(MOST_ORDERS):
        pass
    for mail in sorted(mails.iterdir())[:-MOST_MAILS]:
        mail.unlink()
    leave_unhandled()


def fill_shelf() -> None:
    """Products that run low are there in plenty again."""
    Product.objects.filter(stock__lt=LOW).update(stock=FULL)


def forget_oldest(most: int) -> int:
    """Delete up to CHUNK of the orders before the newest ``most``, and their tasks; how many."""
    oldest = Order.objects.order_by("-pk")[most : most + CHUNK]
    with transaction.atomic():
        for order in oldest:
            order.tasks.all().delete()
            order.delete()
    return len(oldest)


def leave_unhandled() -> None:
    """What an old release would leave behind: a task whose handler is gone."""
    if not Task.objects.named(UNHANDLED).live().exists():
        enqueue(UNHANDLED, {"format": "csv", "month": "last"})
