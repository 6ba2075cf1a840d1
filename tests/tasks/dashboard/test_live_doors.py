"""Who gets a socket, who is turned away with which code, and who is put out later."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.core import signing
from django.test import Client
from django.utils import timezone

from tasks import enqueue
from tasks.dashboard.live import consumer, hub, tickets
from tasks.dashboard.live.routing import websocket_urlpatterns
from tests.hosts.two_sites import partners
from tests.tasks.admin_rows import LIST, failed, staff, text_of
from tests.tasks.dashboard.live_tools import Open, Reader, socket_on, ticket_on
from tests.tasks.dashboard.test_register import partner

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.hosts.two_sites"),
]

SIGNED_OUT, NOT_ALLOWED, GONE, EXPIRED, TOO_MANY = 4401, 4403, 4404, 4408, 4429


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "CHECK", 0.2)


def stays(reader: Reader) -> bool:
    return bool(reader.whole()["parts"]) and reader.closed_with is None


def test_who_sees_the_page_follows_it(open_socket: Open) -> None:
    enqueue("shop.do")
    assert stays(open_socket(staff("view_task")))


def test_a_socket_without_a_session_is_told_that_it_is_signed_out(open_socket: Open) -> None:
    address = socket_on(staff("view_task"))
    assert open_socket(Client(), address).end() == SIGNED_OUT


def test_a_ticket_does_not_serve_another_session(open_socket: Open) -> None:
    address = socket_on(staff("view_task"))
    assert open_socket(staff("view_task", name="bob"), address).end() == SIGNED_OUT


@pytest.mark.parametrize("rights", [(), ("view_queue",)])
def test_staff_without_the_right_are_turned_away(open_socket: Open, rights: tuple[str]) -> None:
    client = staff("view_task")
    address = socket_on(client)
    User.objects.get().user_permissions.set(Permission.objects.filter(codename__in=rights))
    assert open_socket(client, address).end() == NOT_ALLOWED


def test_a_customer_is_turned_away(open_socket: Open) -> None:
    client = staff("view_task")
    address = socket_on(client)
    User.objects.update(is_staff=False)
    assert open_socket(client, address).end() == NOT_ALLOWED


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "http://evil.example",
        "http://testserver.evil.example",
        "http://[testserver]",
        "http://[",
    ],
)
def test_a_page_of_another_origin_is_turned_away(open_socket: Open, origin: str | None) -> None:
    assert open_socket(staff("view_task"), origin=origin).end() == NOT_ALLOWED


def test_why_a_page_of_this_site_may_look_like_one_of_another_is_logged(
    open_socket: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """As behind a proxy that does not pass the Host header on."""
    assert open_socket(staff("view_task"), origin="https://shop.example").end() == NOT_ALLOWED
    assert "https://shop.example" in caplog.text
    assert "CSRF_TRUSTED_ORIGINS" in caplog.text


@pytest.mark.parametrize("trusted", ["https://shop.example", "https://*.example"])
def test_a_trusted_origin_may(open_socket: Open, settings: Any, trusted: str) -> None:
    settings.CSRF_TRUSTED_ORIGINS = [trusted]
    client = staff("view_task")
    assert stays(open_socket(client, origin="https://shop.example"))
    assert open_socket(client, origin="http://shop.example").end() == NOT_ALLOWED


def test_a_ticket_lasts_a_minute(open_socket: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    client = staff("view_task")
    address = socket_on(client)
    monkeypatch.setattr(signing.time, "time", lambda now=time.time: now() + tickets.LIFETIME + 1)
    assert open_socket(client, address).end() == EXPIRED


@pytest.mark.parametrize("ticket", ["", "nonsense", "e30:1:x"])
def test_a_ticket_that_is_none_of_ours_is_refused(open_socket: Open, ticket: str) -> None:
    address = f"/admin/tasks/live/changelist/?ticket={ticket}"
    assert open_socket(staff("view_task"), address).end() == NOT_ALLOWED


def test_a_ticket_serves_the_page_it_was_made_for(open_socket: Open) -> None:
    client = staff("view_task")
    address = socket_on(client).replace("/changelist/", "/overview/")
    assert open_socket(client, address).end() == NOT_ALLOWED


def test_a_task_out_of_sight_ends_the_socket_of_its_page(open_socket: Open, settings: Any) -> None:
    task = enqueue("shop.do")
    client = staff("view_task")
    address = socket_on(client, f"{LIST}{task.pk}/change/")
    settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.none()}
    assert open_socket(client, address).end() == GONE


def test_a_session_has_at_most_twenty_sockets(open_socket: Open) -> None:
    client = staff("view_task")
    readers = [open_socket(client) for _ in range(hub.MOST_SOCKETS)]
    assert open_socket(client).end() == TOO_MANY
    readers[0].leave()
    assert stays(open_socket(client))
    assert stays(open_socket(staff("view_task", name="bob")))


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"shown": 7, "hidden": []}', "[" * 20_000])
def test_what_a_page_says_without_sense_does_no_harm(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(consumer, "BEAT", 0.2)
    reader = open_socket(staff("view_task"))
    reader.loop.run(reader.socket.send_to(text_data=text))
    assert stays(reader)
    assert reader.hear() == {}


def test_the_other_sites_own_permission_decides(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = partner()
    address = socket_on(client, "/partners/tasks/task/")
    assert address.startswith("/partners/tasks/live/changelist/")
    reader = open_socket(client, address)
    assert stays(reader)
    monkeypatch.setattr(partners, "has_permission", lambda request: False)
    assert reader.end() == NOT_ALLOWED


def test_a_site_that_cannot_decide_lets_nobody_in(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = partner()
    address = socket_on(client, "/partners/tasks/task/")
    monkeypatch.setattr(partners, "has_permission", lambda request: request.tenant.is_open)
    assert open_socket(client, address).end() == NOT_ALLOWED
    assert "'partners' could not decide about a socket" in caplog.text


def _sign_out(client: Client) -> None:
    client.logout()


def _end_sessions(client: Client) -> None:
    Session.objects.all().delete()


def _deactivate(client: Client) -> None:
    User.objects.update(is_active=False)


def _change_password(client: Client) -> None:
    user = User.objects.get()
    user.set_password("another")
    user.save()


def _withdraw(client: Client) -> None:
    User.objects.get().user_permissions.clear()


def _dismiss(client: Client) -> None:
    User.objects.update(is_staff=False)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_sign_out, SIGNED_OUT),
        (_end_sessions, SIGNED_OUT),
        (_deactivate, SIGNED_OUT),
        (_change_password, SIGNED_OUT),
        (_withdraw, NOT_ALLOWED),
        (_dismiss, NOT_ALLOWED),
    ],
)
def test_who_loses_the_right_is_put_out(
    open_socket: Open, change: Callable[[Client], None], code: int
) -> None:
    client = staff("view_task")
    reader = open_socket(client)
    assert stays(reader)
    change(client)
    assert reader.end() == code


def test_it_is_asked_often_enough_for_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert consumer.CHECK <= 5.0
    assert consumer.BEAT <= 5.0


def test_a_right_that_is_won_shows_itself(open_socket: Open) -> None:
    enqueue("shop.do")
    client = staff("view_task")
    reader = open_socket(client)
    assert "/cancel/" not in str(reader.whole())
    User.objects.get().user_permissions.add(Permission.objects.get(codename="cancel_task"))
    assert "/cancel/" in str(reader.whole())


def test_an_old_ticket_is_renewed_for_who_may_see_the_page(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = staff("view_task")
    with monkeypatch.context() as patch:
        patch.setattr(signing.time, "time", lambda now=time.time: now() - 86400)
        old = ticket_on(client)
    assert open_socket(client, f"/admin/tasks/live/changelist/?ticket={old}").end() == EXPIRED
    new = client.get(f"{LIST}live/ticket/", {"ticket": old}).json()["ticket"]
    assert stays(open_socket(client, f"/admin/tasks/live/changelist/?ticket={new}"))

    assert client.get(f"{LIST}live/ticket/", {"ticket": old + "x"}).status_code == 403
    User.objects.get().user_permissions.clear()
    assert client.get(f"{LIST}live/ticket/", {"ticket": old}).status_code == 403
    client.logout()
    assert client.get(f"{LIST}live/ticket/", {"ticket": old}).status_code == 302


def test_by_http_a_refusal_says_so_itself_as_no_proxy_would() -> None:
    client = staff("view_task")
    task = enqueue("shop.do")
    asked = {"ticket": ticket_on(client, f"{LIST}{task.pk}/change/")}
    task.delete()
    gone = client.get(f"{LIST}live/poll/", asked)
    assert (gone.status_code, gone.json()) == (404, {"end": GONE})
    User.objects.get().user_permissions.clear()
    for name in ("ticket", "poll"):
        refused = client.get(f"{LIST}live/{name}/", asked)
        assert (refused.status_code, refused.json()) == (403, {"end": NOT_ALLOWED})


class FixedOffset:
    """Middleware of a host whose people have no zone, but an offset."""

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        with timezone.override(timezone.get_fixed_timezone(120)):
            return self.get_response(request)


def test_a_page_in_a_zone_without_a_name_is_followed_in_it(
    open_socket: Open, settings: Any
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.FixedOffset"]
    task = enqueue("shop.do")
    reader = open_socket(staff("view_task"))
    local = task.created_at.astimezone(timezone.get_fixed_timezone(120))
    assert f"{local:%H:%M}" in str(reader.whole()["parts"])


def test_a_page_stays_in_its_language_when_another_tab_takes_a_new_one(settings: Any) -> None:
    sessions = settings.MIDDLEWARE.index("django.contrib.sessions.middleware.SessionMiddleware")
    settings.MIDDLEWARE = list(settings.MIDDLEWARE)
    settings.MIDDLEWARE.insert(sessions + 1, "django.middleware.locale.LocaleMiddleware")
    failed()
    client = staff("view_task")
    asked = {"ticket": ticket_on(client)}
    client.cookies[settings.LANGUAGE_COOKIE_NAME] = "de"
    assert "fehlgeschlagen" in text_of(client.get(LIST))
    polled = client.get(f"{LIST}live/poll/", asked).json()
    assert "failed" in str(polled["parts"])
    assert "fehlgeschlagen" not in str(polled["parts"])
    renewed = client.get(f"{LIST}live/ticket/", asked).json()
    for ticket in (polled["ticket"], renewed["ticket"]):
        assert tickets.read_ticket(ticket).language == "en"


def test_a_zone_that_is_not_known_here_is_the_hosts_own(settings: Any) -> None:
    ticket = tickets.Ticket("admin", "changelist", {}, "", "1", "", "en-us", "/", "Mars/Olympus")
    with ticket.surroundings():
        assert timezone.get_current_timezone_name() == settings.TIME_ZONE


def test_a_ticket_of_one_site_is_nothing_to_another() -> None:
    ticket = ticket_on(partner(), "/partners/tasks/task/")
    client = staff("view_task")
    for name in ("ticket", "poll"):
        assert client.get(f"{LIST}live/{name}/", {"ticket": ticket}).status_code == 403


def test_every_page_has_a_door_and_no_socket_has_another(open_socket: Open) -> None:
    """Who enters by which route is asked above; a route or page that is new is asked here."""
    (route,) = websocket_urlpatterns
    assert route.callback is consumer.live_consumer
    client = staff("view_task")
    User.objects.update(is_superuser=True)
    task = enqueue("shop.do")
    with_socket = {
        match[1]
        for address in ("", "overview/", "incidents/", f"{task.pk}/change/")
        if (match := re.search(r"tasks/live/(\w+)/", socket_on(client, LIST + address)))
    }
    for name in with_socket:
        bare = f"/admin/tasks/live/{name}/"
        assert open_socket(client, bare).end() == NOT_ALLOWED
        assert route.pattern.match(bare.lstrip("/"))
    assert not route.pattern.match("admin/tasks/live/")
    assert not route.pattern.match("admin/tasks/live/overview/more/")


def test_a_number_of_thousands_of_digits_is_no_task_and_no_error() -> None:
    client = staff("view_task")
    task = enqueue("shop.do")
    numbers = f"{'9' * 5000},{task.pk}"
    asked = {"ticket": ticket_on(client), "shown": numbers}
    assert client.get(f"{LIST}live/poll/", asked).status_code == 200
