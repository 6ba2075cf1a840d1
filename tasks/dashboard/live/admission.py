"""Who may follow a page: asked when a socket opens and again and again, each time anew."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth import get_user
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, QueryDict, parse_cookie
from django.http.request import validate_host
from django.urls import reverse

from tasks.dashboard.live.tickets import Ticket, session_mark
from tasks.dashboard.page import pages
from tasks.dashboard.sites import site_named
from tasks.dashboard.viewer import Viewer

logger = logging.getLogger(__name__)

SIGNED_OUT = 4401
NOT_ALLOWED = 4403
GONE = 4404
EXPIRED = 4408
TOO_MANY = 4429


class Refused(Exception):
    """The socket is to be closed with ``code``."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def admit(ticket: Ticket, scope: Mapping[str, Any]) -> Viewer:
    """Who opened the socket, read afresh. Raises Refused.

    To be called inside ``ticket.surroundings()``.
    """
    site = site_named(ticket.site)
    if site is None:
        raise Refused(NOT_ALLOWED)
    request = made_up_request(ticket, scope)
    if not request.user.is_authenticated or not request.user.is_active:
        raise Refused(SIGNED_OUT)
    if str(request.user.pk) != ticket.user or session_mark(request) != ticket.session:
        raise Refused(SIGNED_OUT)
    viewer = Viewer(request, site)
    if not (_site_agrees(site, request) and may_follow(viewer, ticket)):
        raise Refused(NOT_ALLOWED)
    return viewer


def may_follow(viewer: Viewer, ticket: Ticket) -> bool:
    """Whether the page is open to the viewer."""
    page = pages.get(ticket.page)
    return page is not None and viewer.may_enter and viewer.has(page.right)


def made_up_request(ticket: Ticket, scope: Mapping[str, Any]) -> HttpRequest:
    """What a GET of the page would look like now: session and user are read anew."""
    request = HttpRequest()
    request.method = "GET"
    request.GET = QueryDict(ticket.query)
    request.path = request.path_info = reverse("admin:index", current_app=ticket.site)
    request.META = _headers(scope)
    request.COOKIES = parse_cookie(request.META.get("HTTP_COOKIE", ""))
    engine = import_module(settings.SESSION_ENGINE)
    request.session = engine.SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
    request.user = get_user(request)
    request.current_app = ticket.site
    return request


def is_own_origin(scope: Mapping[str, Any]) -> bool:
    """Whether a page of ours opened the socket: Origin equals the Host asked, or is trusted."""
    request = HttpRequest()
    request.META = _headers(scope)
    try:
        origin = urlsplit(request.META.get("HTTP_ORIGIN", ""))
        host = request.get_host()
    except (ValueError, DisallowedHost):
        return False
    if not origin.netloc:
        return False
    return origin.netloc == host or any(
        origin.scheme == trusted.scheme
        and validate_host(origin.netloc, [trusted.netloc.removeprefix("*")])
        for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS)
    )


def _headers(scope: Mapping[str, Any]) -> dict[str, Any]:
    server = scope.get("server") or ("localhost", 80)
    client = scope.get("client") or ("", 0)
    meta: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": str(server[0]),
        "SERVER_PORT": str(server[1]),
        "REMOTE_ADDR": str(client[0]),
    }
    for name, value in scope.get("headers", ()):
        key = f"HTTP_{name.decode('latin1').upper().replace('-', '_')}"
        text = value.decode("latin1")
        # HTTP/2 may split cookies over several headers.
        between = "; " if key == "HTTP_COOKIE" else ","
        meta[key] = f"{meta[key]}{between}{text}" if key in meta else text
    return meta


def _site_agrees(site: AdminSite, request: HttpRequest) -> bool:
    try:
        return bool(site.has_permission(request))
    # It is the host's own code, and the request has not gone through the host's middleware.
    except Exception:
        logger.exception(
            "The admin site %r could not decide about a socket: its has_permission() must do with "
            "a request that has only a user, a session, cookies, headers, a path and GET.",
            site.name,
        )
        return False
