"""What the test of the wheel does in its host."""

from django import VERSION
from django.db import transaction

import tasks
from shop.models import Order
from tasks.models import Task

EXPECTED = {
    "inventory.reserve": "completed",
    "email.order_confirmation": "completed",
    "crm.sync": "completed",
    "review.ask": "scheduled",
}


def place():
    assert "site-packages" in tasks.__file__, tasks.__file__
    Order.objects.create(email="ada@example.com")
    with transaction.atomic():
        Order.objects.create(email="nobody@example.com")
        transaction.set_rollback(True)


def check():
    order = Order.objects.get()
    states = {task.name: str(task.state) for task in order.tasks.all()}
    told = [
        [str(failure), failure.message]
        for task in order.tasks.all()
        for failure in task.failures.all()
    ]
    assert states == EXPECTED, (states, told)
    assert order.reserved
    assert Task.objects.count() == len(EXPECTED)
    print(f"  Django {'.'.join(map(str, VERSION[:3]))}: {states}")
