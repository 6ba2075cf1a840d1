"""ASGI applications as hosts write them."""

from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

from tasks.dashboard.live.routing import websocket_urlpatterns

plain = get_asgi_application()
without_sockets = ProtocolTypeRouter({"http": plain})
others = [path("chat/", AsyncWebsocketConsumer.as_asgi())]


def around(routes):
    stack = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(routes)))
    return ProtocolTypeRouter({"http": plain, "websocket": stack})


with_others = around(others)
among_others = around([*others, *websocket_urlpatterns])


async def unknown(scope, receive, send):
    await among_others(scope, receive, send)
