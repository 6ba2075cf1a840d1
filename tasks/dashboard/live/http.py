"""Tickets anew, and updates for pages that have no socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse, QueryDict
from django.urls import URLPattern, path

from tasks.dashboard.live.admission import GONE, NOT_ALLOWED, may_follow
from tasks.dashboard.live.render import take_picture
from tasks.dashboard.live.socket import shown_ids
from tasks.dashboard.live.tickets import Ticket, read_ticket, ticket_for
from tasks.dashboard.page import Page, pages
from tasks.dashboard.viewer import Viewer


def urlpatterns(admin: Any, guard: Callable[..., Any]) -> list[URLPattern]:
    """``live/ticket/`` and ``live/poll/``, each behind the admin site's own guard."""
    return [
        path("live/ticket/", guard(partial(renew, admin)), name="tasks_task_live_ticket"),
        path("live/poll/", guard(partial(poll, admin)), name="tasks_task_live_poll"),
    ]


def _says_why_not(answer: Callable[..., JsonResponse]) -> Callable[..., JsonResponse]:
    """Refusals as a socket would close: by them a page knows them from those of a proxy."""

    @wraps(answer)
    def answered(admin: Any, request: HttpRequest) -> JsonResponse:
        try:
            return answer(admin, request)
        except PermissionDenied:
            return JsonResponse({"end": NOT_ALLOWED}, status=403)
        except Http404:
            return JsonResponse({"end": GONE}, status=404)

    return answered


@_says_why_not
def renew(admin: Any, request: HttpRequest) -> JsonResponse:
    """A new ticket for the page of an old one, however old."""
    with _old_ticket(request) as old:
        page = _page(old, admin, request)
        return JsonResponse({"ticket": ticket_for(page, request).sign()})


@_says_why_not
def poll(admin: Any, request: HttpRequest) -> JsonResponse:
    """The whole page, as the first message of a socket would have it."""
    with _old_ticket(request) as old:
        page = _page(old, admin, request)
        ticket = ticket_for(page, request)
        words = request.GET.get("shown", "").split(",")
        shown = shown_ids([int(word) for word in words if word.isdecimal() and len(word) < 20])
        picture = take_picture(ticket, page.viewer, shown)
    rendering = picture.rendering
    here = {f"af-task-{task_id}" for task_id in rendering.here or ()}
    left = {element: html for element, html in rendering.rows.items() if element not in here}
    return JsonResponse(
        {
            "whole": True,
            "how": "poll",
            "now": picture.now,
            "parts": [{"id": element, "html": html} for element, html in rendering.parts.items()],
            "rows": [{"id": element, "html": html} for element, html in left.items()],
            "here": rendering.here,
            "lost": rendering.lost,
            "note": rendering.note,
            "ticket": ticket.sign(),
        }
    )


@contextmanager
def _old_ticket(request: HttpRequest) -> Iterator[Ticket]:
    """The ticket of the page that asks. Inside, its language and time zone are those of the page,
    whatever another tab has chosen meanwhile."""
    try:
        ticket = read_ticket(request.GET.get("ticket", ""), age=None)
    except (signing.BadSignature, TypeError):
        raise PermissionDenied from None
    with ticket.surroundings():
        yield ticket


def _page(ticket: Ticket, admin: Any, request: HttpRequest) -> Page:
    """The page that ``ticket`` was made for, as the person asking sees it."""
    viewer = Viewer(request, admin.admin_site)
    if ticket.site != admin.admin_site.name or not may_follow(viewer, ticket):
        raise PermissionDenied
    request.current_app = admin.admin_site.name
    return pages[ticket.page](viewer, ticket.arguments, QueryDict(ticket.query))
