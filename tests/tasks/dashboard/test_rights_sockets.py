"""Who may follow what: every socket of the routing, for every page and every kind of person."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core import signing
from django.test import Client
from django.urls import reverse

from tasks.dashboard.live import hub, tickets
from tasks.dashboard.live.routing import websocket_urlpatterns
from tasks.dashboard.page import pages
from tests.hosts.two_sites import partners
from tests.tasks.dashboard.live_tools import Open, Reader, ticket_on
from tests.tasks.dashboard.test_rights import (
    MATRIX,
    PREFIX,
    RIGHTS,
    Things,
    addresses,
    nothing,
    person,
    things,
)

__all__ = ["things"]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.hosts.two_sites"),
]

SIGNED_OUT, NOT_ALLOWED, GONE, EXPIRED = 4401, 4403, 4404, 4408
#: A page without parts is not live: it carries no ticket.
PAGES = sorted(name for name, page in pages.items() if page.parts)


def test_every_socket_and_every_page_has_a_row() -> None:
    assert [route.name for route in websocket_urlpatterns] == ["tasks_live"]
    assert set(pages) <= set(MATRIX)
    assert {"overview", "changelist", "change", "record", "incident"} <= set(PAGES)


class Visit:
    """A page that was opened by somebody who may everything, and may lose that."""

    def __init__(self, name: str, things: Things, open_socket: Open) -> None:
        self.client = person(is_superuser=True)
        self.open = open_socket
        row, arguments = MATRIX[name], things.arguments(addresses()[name])
        self.page = reverse(f"admin:{PREFIX}{name}", kwargs=arguments) + row.query
        ticket = ticket_on(self.client, self.page)
        self.socket = f"/admin/tasks/live/{name}/?ticket={quote(ticket)}"

    def follow(self, client: Client | None = None, **more: Any) -> Reader:
        return self.open(client or self.client, self.socket, **more)


@pytest.fixture(params=PAGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def visit(name: str, things: Things, open_socket: Open) -> Visit:
    return Visit(name, things, open_socket)


def now_only(*rights: str, **facts: Any) -> None:
    """From now on the visitor has these rights alone."""
    User.objects.update(**{"is_superuser": False, **facts})
    User.objects.get().user_permissions.set(Permission.objects.filter(codename__in=rights))


def test_a_superuser_follows_it(visit: Visit) -> None:
    assert "parts" in visit.follow().whole()


def test_without_a_session_it_says_signed_out(visit: Visit) -> None:
    assert visit.follow(Client()).end() == SIGNED_OUT


def test_an_ended_session_is_signed_out(visit: Visit) -> None:
    Session.objects.all().delete()
    assert visit.follow().end() == SIGNED_OUT


@pytest.mark.parametrize(
    "lose",
    [
        lambda: now_only("view_task", *RIGHTS, is_staff=False),
        lambda: now_only(),
        lambda: now_only(*RIGHTS),
    ],
    ids=["customer", "no rights", "all but view_task"],
)
def test_who_may_not_see_tasks_is_turned_away(visit: Visit, lose: Callable[[], None]) -> None:
    lose()
    assert visit.follow().end() == NOT_ALLOWED


def test_each_right_follows_what_it_opens(
    visit: Visit, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who was let in a second ago is not asked for again.
    monkeypatch.setattr(hub, "SHARED", 0.0)
    for right in ("view_task", *RIGHTS):
        now_only("view_task", right)
        reader = visit.follow()
        if {right}.issuperset(MATRIX[name].rights):
            assert "parts" in reader.whole(), right
        else:
            assert reader.end() == NOT_ALLOWED, right


def test_a_page_elsewhere_is_turned_away(visit: Visit) -> None:
    assert visit.follow(origin="https://evil.example").end() == NOT_ALLOWED


def test_an_old_ticket_has_expired(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing.time, "time", lambda now=time.time: now() + tickets.LIFETIME + 1)
    assert visit.follow().end() == EXPIRED


def test_staff_of_another_site_are_turned_away(visit: Visit, name: str, things: Things) -> None:
    ticket = tickets.read_ticket(visit.socket.split("ticket=")[1].replace("%3A", ":"))
    other = tickets.Ticket(**{**vars(ticket), "site": partners.name}).sign()
    visit.socket = f"/partners/tasks/live/{name}/?ticket={quote(other)}"
    assert visit.follow().end() == NOT_ALLOWED


def test_what_is_outside_the_scope_is_never_sent(visit: Visit, name: str, settings: Any) -> None:
    settings.AFTERSAVE = {"VISIBLE_TASKS": nothing}
    now_only("view_task", *RIGHTS)
    reader = visit.follow()
    if MATRIX[name].hides:
        assert reader.end() == GONE
    else:
        assert "secretwork" not in str(reader.whole())
