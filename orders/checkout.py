"""Placing an order: the order, its lines and its tasks in one transaction."""

import uuid
from collections.abc import Mapping

from django.db import IntegrityError, transaction

from orders.models import Order, OrderLine, Product


def place_order(
    *, customer: str, email: str, quantities: Mapping[Product, int], submission: uuid.UUID
) -> Order:
    """Save the order of ``quantities`` (pieces of each product, at least 1 of one).

    The same ``submission`` again, also at the same moment, returns the order it made first.
    """
    try:
        with transaction.atomic():
            return _save(customer, email, quantities, submission)
    except IntegrityError:
        placed = find_submitted(submission)
        if placed is None:
            raise
        return placed


def find_submitted(submission: object) -> Order | None:
    """The order that this submission of the form made, if it made one."""
    try:
        return Order.objects.filter(submission=uuid.UUID(str(submission))).first()
    except ValueError:
        return None


def _save(
    customer: str, email: str, quantities: Mapping[Product, int], submission: uuid.UUID
) -> Order:
    lines = [
        OrderLine(product=product, quantity=quantity, price=product.price)
        for product, quantity in quantities.items()
    ]
    order = Order.objects.create(
        customer=customer,
        email=email,
        submission=submission,
        total=sum(line.total for line in lines),
    )
    for line in lines:
        line.order = order
    OrderLine.objects.bulk_create(lines)
    return order
