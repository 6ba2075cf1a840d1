import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Loads the apps: what imports models may only be imported after it.
http_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402

from tasks.dashboard.live.routing import live  # noqa: E402

application = ProtocolTypeRouter({"http": http_application, "websocket": live})
