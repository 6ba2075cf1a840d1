"""What the test of the wheel does in its host."""

import re

from django import VERSION
from django.contrib.auth.models import User
from django.contrib.staticfiles import finders
from django.db import transaction
from django.test import Client

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


def look():
    staff = Client(SERVER_NAME="localhost")
    staff.force_login(User.objects.create_superuser("ada"))
    page = staff.get("/admin/tasks/task/overview/")
    assert page.status_code == 200, page.status_code
    files = set(re.findall(r"/static/(tasks/[^\"?]+)", page.content.decode()))
    assert {"tasks/live.js", "tasks/dashboard.css"} <= files, files
    for file in files:
        assert "site-packages" in (finders.find(file) or ""), file
    print(f"its overview opens, with {len(files)} files of its own")
