"""What holds for every page, whatever it shows."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.http import HttpRequest, QueryDict
from django.test import Client
from django.urls import resolve
from django.utils.functional import SimpleLazyObject, empty

from orders.models import Order
from tasks.dashboard.page import pages
from tasks.dashboard.viewer import Viewer
from tasks.models import BulkAction, Incident, Task, TaskEvent
from tests.browser.walk import addresses
from tests.tasks.admin_rows import LIST, text_of

pytestmark = pytest.mark.django_db

AT = "2026-11-22T01:00Z"
NUMBER = 12_345
LINK = "javascript:window.hacked=1"
#: A number with a comma in what a script or the server reads, or in an address.
GROUPED = re.compile(r"""\b(?:id|for|name|value|max|maxlength|href|formaction)="[^"]*\d,\d{3}""")


@pytest.fixture
def walk() -> dict[str, str]:
    """Every page, about rows with numbers above a thousand."""
    order = Order.objects.create(id=NUMBER, customer="Ann", email="ann@example.com")
    about = {"type": "shop", "action": "do", "fingerprint": "f" * 32}
    task = Task.objects.create(
        id=NUMBER, state="failed", max_attempts=5, run_at=AT, finished_at=AT, **about
    )
    task.content_type, task.object_id = ContentType.objects.get_for_model(Order), str(order.pk)
    task.save()
    incident = Incident.objects.create(
        id=NUMBER, failures=NUMBER, newest_task_id=task.pk, link=LINK, note="n", **about
    )
    bulk = BulkAction.objects.create(
        id=NUMBER, action="retry", query="state:failed", expected=NUMBER, looked_at=NUMBER
    )
    TaskEvent.objects.create(id=NUMBER, task=task, who="ann", action="retry")
    TaskEvent.objects.create(id=NUMBER + 1, about=bulk, who="ann", action="bulk_start")
    return addresses(task, incident, bulk)


@pytest.fixture
def client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_numbers_of_rows_are_whole_in_hosts_that_group_digits(
    client: Client, walk: dict[str, str], settings: Any
) -> None:
    settings.USE_THOUSAND_SEPARATOR = True
    for name, address in walk.items():
        response = client.get(address)
        assert response.status_code == 200, name
        assert GROUPED.findall(text_of(response)) == [], name
    assert f'id="af-task-{NUMBER}"' in text_of(client.get(LIST))
    request = response.wsgi_request
    for name, address in walk.items():
        arguments = resolve(address.partition("?")[0]).captured_kwargs
        page = pages[name](
            Viewer(request, admin.site), arguments, QueryDict(address.partition("?")[2])
        )
        for element, html in page.render().parts.items():
            assert GROUPED.findall(html) == [], (name, element)


def test_no_address_of_a_script_is_linked(client: Client, walk: dict[str, str]) -> None:
    for name, address in walk.items():
        assert 'href="javascript' not in text_of(client.get(address)), name


def test_only_pages_that_follow_what_happens_say_how_live_they_are(
    client: Client, walk: dict[str, str]
) -> None:
    silent = {name for name in walk if 'id="af-live"' not in text_of(client.get(walk[name]))}
    assert silent == {name for name in walk if not pages[name].parts}
    assert silent == {"search", "bulk_new", "edit_data"}


class UnreadNonce(SimpleLazyObject):
    """As Django 6's own: false until somebody has read it."""

    def __bool__(self) -> bool:
        return self._wrapped is not empty


def nonce(request: HttpRequest) -> dict[str, object]:
    return {"csp_nonce": UnreadNonce(lambda: "n0nce")}


def test_scripts_and_styles_carry_the_nonce_that_nobody_has_read_before(
    client: Client, walk: dict[str, str], settings: Any
) -> None:
    (templates,) = settings.TEMPLATES
    options = templates["OPTIONS"]
    processors = [*options["context_processors"], f"{__name__}.nonce"]
    settings.TEMPLATES = [{**templates, "OPTIONS": {**options, "context_processors": processors}}]
    for name, address in walk.items():
        own = re.findall(r"<(?:script|link)[^>]*tasks/[^>]*>", text_of(client.get(address)))
        assert len(own) > 2, name
        assert all('nonce="n0nce"' in one for one in own), (name, own)
