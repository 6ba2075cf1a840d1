"""The example host without ASGI: `runserver` is Django's own, and nothing takes sockets."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [app for app in INSTALLED_APPS if app not in ("daphne", "channels")]
ASGI_APPLICATION = None
CHANNEL_LAYERS: dict[str, dict[str, object]] = {}
