"""The sockets' addresses, for the host's ``asgi.py``.

    application = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": live})

A host with sockets of its own puts ``websocket_urlpatterns`` into its URLRouter instead.
"""

from __future__ import annotations

from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.handlers.asgi import ASGIHandler
from django.urls import re_path

from tasks.dashboard.live.consumer import live_consumer

#: Below whatever path an admin site has: the signed ticket says which site it is.
_consumer: Any = live_consumer  # Django's stubs know routes that lead to views alone
websocket_urlpatterns: list[Any] = [
    re_path(r"^(?:.*/)?tasks/live/(?P<page>\w+)/$", _consumer, name="tasks_live"),
]

live = URLRouter(websocket_urlpatterns)


def takes_sockets(application: Any) -> bool | None:
    """Whether an ASGI application leads to our sockets; None when that cannot be told."""
    if application is live_consumer:
        return True
    if isinstance(application, ProtocolTypeRouter):
        inner = application.application_mapping.get("websocket")
        return False if inner is None else takes_sockets(inner)
    if isinstance(application, URLRouter):
        answers = [takes_sockets(route.callback) for route in application.routes]
        return True if True in answers else None if None in answers else False
    if isinstance(application, ASGIHandler):
        return False
    # Channels' own middleware and validators keep what they wrap under these names.
    for name in ("inner", "application"):
        if hasattr(application, name):
            return takes_sockets(getattr(application, name))
    # A consumer of the host's has this, other applications may lead anywhere.
    return False if hasattr(application, "consumer_class") else None
