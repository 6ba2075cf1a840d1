"""Who may open what: every address and every kind of person. A new address needs a row here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from orders.models import Order
from tasks.models import BulkAction, Incident, Queue, Task, TaskEvent
from tests.tasks.admin_rows import failed

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.hosts.two_sites")]

PREFIX = "tasks_task_"
#: What an answer means, whatever the page.
OPEN, SIGN_IN, REFUSED, UNKNOWN = "open", "sign in", "refused", "unknown"


@dataclass(frozen=True)
class Row:
    """What an address needs besides ``view_task``; ``hides``: 404 to who may not see the task."""

    rights: tuple[str, ...] = ()
    posts: bool = False
    hides: bool = False
    query: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


def act(*rights: str, **more: Any) -> Row:
    return Row(rights, posts=True, **more)


MATRIX = {
    "overview": Row(),
    "changelist": Row(),
    "export": Row(("export_task",)),
    "change": Row(hides=True),
    "record": Row(),
    "search": Row(query="?q=1042"),
    "incidents": Row(),
    "incident": Row(hides=True),
    "activity": Row(),
    "bulk": Row(hides=True),
    "bulk_new": Row(("bulk_task", "retry_task"), query="?action=retry&q=state:failed"),
    "edit_data": Row(("change_task_data", "view_task_data"), hides=True),
    "retry": act("retry_task", hides=True),
    "run_again": act("retry_task", hides=True),
    "cancel": act("cancel_task", hides=True),
    "complete": act("complete_task", hides=True),
    "run_now": act("run_task_now", hides=True),
    "change_data": act("change_task_data", "view_task_data", hides=True),
    "restore": act("change_task_data", "view_task_data", hides=True, query="?event={event}"),
    "selected": act("retry_task"),
    "record_retry": act("retry_task"),
    "queue_pause": act("pause_queue"),
    "queue_resume": act("pause_queue"),
    "incident_take": act("manage_incident", hides=True),
    "incident_release": act("manage_incident", hides=True),
    "incident_mute": act("manage_incident", hides=True),
    "incident_unmute": act("manage_incident", hides=True),
    "incident_resolve": act("manage_incident", hides=True),
    "incident_note": act("manage_incident", hides=True),
    "incident_try": act("manage_incident", "retry_task", hides=True),
    "incident_rest": act("manage_incident", "retry_task", "bulk_task", hides=True),
    "bulk_start": act("bulk_task", "retry_task", fields={"action": "retry", "q": "state:failed"}),
    "bulk_pause": act("bulk_task", "retry_task", hides=True),
    "bulk_resume": act("bulk_task", "retry_task", hides=True),
    "bulk_cancel": act("bulk_task", "retry_task", hides=True),
    "live_poll": Row(),
    "live_ticket": Row(),
}

RIGHTS = sorted({right for row in MATRIX.values() for right in row.rights} | {"view_queue"})


def addresses() -> dict[str, URLPattern]:
    """Every address of the dashboard that the URLconf knows, by its name without the prefix."""

    def walk(resolver: URLResolver) -> Iterator[URLPattern]:
        for one in resolver.url_patterns:
            yield from walk(one) if isinstance(one, URLResolver) else [one]

    found = {one.name: one for one in walk(get_resolver()) if one.name}
    return {
        name.removeprefix(PREFIX): one for name, one in found.items() if name.startswith(PREFIX)
    }


def test_every_address_has_a_row_and_every_row_an_address() -> None:
    assert set(addresses()) == set(MATRIX)


@dataclass
class Things:
    """What the addresses are about."""

    task: Task
    incident: Incident
    bulk: BulkAction
    event: TaskEvent

    def arguments(self, pattern: URLPattern) -> dict[str, Any]:
        known = {
            "task_id": self.task.pk,
            "incident_id": self.incident.pk,
            "bulk_id": self.bulk.pk,
            "queue": self.task.queue,
            "action": "retry",
            "app": "orders",
            "model": "order",
            "key": self.task.object_id,
        }
        return {name: known[name] for name in pattern.pattern.converters}

    def changed(self) -> bool:
        """Whether anything was done to any of them."""
        now = Task.objects.filter(pk=self.task.pk, state="failed", lease=self.task.lease)
        return (
            not now.exists()
            or TaskEvent.objects.count() != 1
            or BulkAction.objects.count() != 1
            or Queue.objects.filter(paused_at__isnull=False).exists()
        )


@pytest.fixture
def things() -> Things:
    order = Order.objects.create(customer="Ann", email="ann@example.com")
    task = failed("shop.secretwork", record=order, message="secretwork broke")
    incident = Incident.objects.create(
        fingerprint=task.fingerprint or "f" * 32, type=task.type, action=task.action
    )
    Task.objects.filter(pk=task.pk).update(fingerprint=incident.fingerprint)
    task.refresh_from_db()
    bulk = BulkAction.objects.create(action="retry", query="state:failed", who="boss")
    event = TaskEvent.objects.create(task=task, action="change_data", before={"old": "data"})
    return Things(task, incident, bulk, event)


def asked(client: Client, name: str, things: Things, site: str = "admin") -> Any:
    """What the address answers to its own method."""
    row, pattern = MATRIX[name], addresses()[name]
    url = reverse(f"admin:{PREFIX}{name}", kwargs=things.arguments(pattern), current_app=site)
    if name.startswith("live_"):
        url += f"?ticket={ticket_of(things, client)}"
    url += row.query.format(event=things.event.pk)
    if row.posts:
        return client.post(url, {"ticked": [things.task.pk], **row.fields})
    return client.get(url)


def ticket_of(things: Things, client: Client) -> str:
    """A ticket for the list, however it was come by."""
    from tasks.dashboard.live.tickets import Ticket

    user = client.session.get("_auth_user_id", "")
    return Ticket("admin", "changelist", {}, "", user, "", "en-us", "/", "UTC").sign()


def meaning(response: Any) -> str:
    if response.status_code == 302 and "/login/" in response["Location"]:
        return SIGN_IN
    known = {403: REFUSED, 404: UNKNOWN, 200: OPEN, 302: OPEN, 303: OPEN}
    return known.get(response.status_code, str(response.status_code))


def outcomes(client: Client, things: Things, site: str = "admin") -> dict[str, str]:
    return {name: meaning(asked(client, name, things, site)) for name in MATRIX}


def person(*rights: str, name: str = "person", **more: Any) -> Client:
    user = User.objects.create_user(name, **{"is_staff": True, **more})
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="tasks", codename__in=rights)
    )
    client = Client()
    client.force_login(user)
    return client


def signed_out() -> Client:
    client = person(is_superuser=True)
    Session.objects.all().delete()
    return client


def deactivated() -> Client:
    client = person(is_superuser=True)
    User.objects.update(is_active=False)
    return client


@pytest.mark.parametrize(
    "visitor",
    [
        Client,
        lambda: person("view_task", *RIGHTS, is_staff=False),
        signed_out,
        deactivated,
    ],
    ids=["anonymous", "customer", "ended session", "deactivated"],
)
def test_who_is_not_staff_is_asked_to_sign_in(
    things: Things, visitor: Callable[[], Client]
) -> None:
    assert outcomes(visitor(), things) == dict.fromkeys(MATRIX, SIGN_IN)
    assert not things.changed()


def test_staff_without_rights_are_refused_everywhere(things: Things) -> None:
    assert outcomes(person(), things) == dict.fromkeys(MATRIX, REFUSED)
    assert not things.changed()


@pytest.mark.parametrize("right", RIGHTS)
def test_a_right_alone_opens_nothing_without_the_right_to_see_tasks(
    things: Things, right: str
) -> None:
    assert outcomes(person(right), things) == dict.fromkeys(MATRIX, REFUSED)
    assert not things.changed()


@pytest.mark.parametrize("right", ["view_task", *RIGHTS])
def test_each_right_opens_what_it_is_for_and_nothing_else(things: Things, right: str) -> None:
    assert outcomes(person("view_task", right), things) == {
        name: OPEN if {right}.issuperset(row.rights) else REFUSED for name, row in MATRIX.items()
    }


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row.rights])
def test_an_address_needs_all_its_rights_and_no_other(things: Things, name: str) -> None:
    rights = MATRIX[name].rights
    for missing in rights:
        lacks = person("view_task", *(right for right in RIGHTS if right != missing), name=missing)
        assert meaning(asked(lacks, name, things)) == REFUSED, missing
        assert not things.changed()
    assert meaning(asked(person("view_task", *rights), name, things)) == OPEN


def test_a_superuser_may_everything(things: Things) -> None:
    assert outcomes(person(is_superuser=True), things) == dict.fromkeys(MATRIX, OPEN)


def test_staff_of_one_site_are_asked_to_sign_in_on_another(things: Things) -> None:
    client = person(is_superuser=True)
    found = {name: asked(client, name, things, "partners") for name in MATRIX}
    assert {name: meaning(one) for name, one in found.items()} == dict.fromkeys(MATRIX, SIGN_IN)
    assert {one["Location"].split("?")[0] for one in found.values()} == {"/partners/login/"}
    assert not things.changed()


def nothing(user: Any, tasks: QuerySet[Task]) -> QuerySet[Task]:
    """VISIBLE_TASKS of people who may see no task of type shop."""
    return tasks.exclude(type="shop")


def test_what_is_outside_the_scope_does_not_exist(things: Things, settings: Any) -> None:
    settings.AFTERSAVE = {"VISIBLE_TASKS": nothing}
    client = person("view_task", *RIGHTS)
    for name, row in MATRIX.items():
        response = asked(client, name, things)
        if row.hides:
            assert meaning(response) == UNKNOWN, name
        else:
            assert meaning(response) == OPEN, name
        body = b"".join(response) if response.streaming else response.content
        assert b"secretwork" not in body, name
    assert Task.objects.filter(pk=things.task.pk, state="failed").exists()


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row.posts])
def test_a_button_answers_post_alone(things: Things, name: str) -> None:
    client = person(is_superuser=True)
    url = reverse(f"admin:{PREFIX}{name}", kwargs=things.arguments(addresses()[name]))
    for method in (client.get, client.head, client.put, client.delete):
        assert method(url).status_code == 405
    assert not things.changed()


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row.posts])
def test_a_button_pressed_from_elsewhere_does_nothing(things: Things, name: str) -> None:
    client = person(is_superuser=True)
    guarded = Client(enforce_csrf_checks=True)
    guarded.cookies = client.cookies
    assert meaning(asked(guarded, name, things)) == REFUSED
    guarded.get(f"/admin/tasks/task/{things.task.pk}/change/")
    url = reverse(f"admin:{PREFIX}{name}", kwargs=things.arguments(addresses()[name]))
    token = {"csrfmiddlewaretoken": guarded.cookies["csrftoken"].value}
    elsewhere = guarded.post(url, token, headers={"origin": "https://evil.example"})
    assert meaning(elsewhere) == REFUSED
    assert not things.changed()


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if not row.posts])
def test_looking_changes_nothing(things: Things, name: str) -> None:
    asked(person(is_superuser=True), name, things)
    assert not things.changed()
