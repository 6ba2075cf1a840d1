"""In whose name a bulk action is done: who started it, with the rights of this moment."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import DatabaseError
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _

from tasks.bulk import check_rights
from tasks.models import BulkAction

if TYPE_CHECKING:
    from tasks.dashboard.viewer import Viewer

logger = logging.getLogger(__name__)

#: Why a bulk action ends before everything is done, though nobody cancelled it.
WHY_STOPPED = {
    "user": _("who started it was removed or deactivated"),
    "site": _("who started it may not enter these pages any more"),
    "right": _("who started it has no right to do this any more"),
    "query": _("its search cannot be read any more"),
}


class Stopped(Exception):
    """It must not go on; ``why`` is a key of ``WHY_STOPPED``."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


def viewer_of(bulk: BulkAction) -> Viewer:
    """Who started it, with the rights of this moment. Raises Stopped.

    The request behind it is made up: a user, an empty session, a path and GET.
    """
    from tasks.dashboard.sites import site_named
    from tasks.dashboard.viewer import Viewer

    users = get_user_model()._default_manager
    try:
        user = users.filter(pk=bulk.user_id).first()
    except (ValueError, ValidationError):
        user = None
    if user is None or not user.is_active:
        raise Stopped("user")
    site = site_named(bulk.site)
    if site is None:
        raise Stopped("site")
    request = _made_up_request(site, user)
    with stopping(bulk, "site"):
        if not site.has_permission(request):
            raise Stopped("site")
    viewer = Viewer(request, site)
    try:
        check_rights(viewer, bulk.action)
    except PermissionDenied:
        raise Stopped("right") from None
    return viewer


def _made_up_request(site: Any, user: Any) -> HttpRequest:
    request = HttpRequest()
    request.method = "GET"
    request.META = {
        "REQUEST_METHOD": "GET",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "REMOTE_ADDR": "",
    }
    request.path = request.path_info = "/"
    with suppress(NoReverseMatch):
        request.path = request.path_info = reverse("admin:index", current_app=site.name)
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    request.user = user
    request.current_app = site.name
    return request


@contextmanager
def stopping(bulk: BulkAction, why: str) -> Iterator[None]:
    """What the host's own code stumbles over ends the bulk action; databases may come back."""
    try:
        yield
    except (Stopped, DatabaseError):
        raise
    except Exception:
        logger.exception(
            "Bulk action %d was stopped (%s): the host's admin could not decide. It is asked with "
            "a request that has only a user, an empty session, headers, a path and GET.",
            bulk.pk,
            why,
        )
        raise Stopped(why) from None
