"""Three people who look after orders, with the rights of their work."""

from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission

from orders.demo.folder import Folder

LOOK = ["tasks.view_task", "orders.view_order", "orders.view_orderline", "orders.view_product"]
CARE = [
    *LOOK,
    "tasks.view_task_data",
    "tasks.retry_task",
    "tasks.cancel_task",
    "tasks.change_task_data",
    "tasks.run_task_now",
]
OPERATIONS = [
    *CARE,
    "tasks.complete_task",
    "tasks.bulk_task",
    "tasks.export_task",
    "tasks.view_queue",
    "tasks.pause_queue",
    "tasks.manage_incident",
    "orders.change_order",
    "orders.change_product",
]


@dataclass(frozen=True, eq=False)
class Person:
    """Who signs in as ``login``, and what the group may do."""

    login: str
    group: str
    rights: list[str]


PEOPLE = [
    Person("viewer", "View only", LOOK),
    Person("care", "Customer care", CARE),
    Person("operations", "Operations", OPERATIONS),
]


def welcome(folder: Folder) -> dict[Person, str]:
    """Create the people or bring them up to date; returns their passwords."""
    return {person: _welcome(person, folder.secret(person.login)) for person in PEOPLE}


def _welcome(person: Person, password: str) -> str:
    group, _ = Group.objects.get_or_create(name=person.group)
    group.permissions.set(_permission(right) for right in person.rights)
    user, _ = get_user_model().objects.get_or_create(username=person.login)
    user.is_staff = user.is_active = True
    if not user.check_password(password):
        user.set_password(password)
    user.save()
    user.groups.set([group])
    return password


def _permission(right: str) -> Permission:
    app, codename = right.split(".")
    return Permission.objects.get(content_type__app_label=app, codename=codename)
