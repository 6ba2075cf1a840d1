"""What a page tells its own script, so that it can follow what happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.urls import reverse

from tasks.dashboard.live.tickets import ticket_for

if TYPE_CHECKING:
    from tasks.dashboard.page import Page


def live_facts(page: Page, request: HttpRequest, context: Mapping[str, Any]) -> dict[str, Any]:
    """For the template ``parts/live.html``; empty for a page that nothing changes."""
    if not page.parts:
        return {}
    site = page.viewer.site.name
    return {
        "ticket": ticket_for(page, request).sign(),
        "socket": f"{reverse('admin:index', current_app=site)}tasks/live/{page.name}/",
        "renew": reverse("admin:tasks_task_live_ticket", current_app=site),
        "poll": reverse("admin:tasks_task_live_poll", current_app=site),
        "asgi": isinstance(request, ASGIRequest),
        "rows": page.rows_part,
        "note": page.note(context),
    }
