"""A host without Django's admin, and without what that needs: only the engine is there."""

import sys

from tests.settings import *  # noqa: F403

INSTALLED_APPS = ["tasks", "workers", "django.contrib.contenttypes", "tests.workload"]
MIDDLEWARE: list[str] = []
TEMPLATES: list[dict[str, object]] = []
CHANNEL_LAYERS: dict[str, dict[str, object]] = {}
ASGI_APPLICATION = None
ROOT_URLCONF = "tests.hosts.no_admin"
urlpatterns: list[object] = []

# Whoever imports one of these in a process of this host gets a ModuleNotFoundError.
for absent in ("django.contrib.admin", "tasks.admin", "tasks.dashboard"):
    assert absent not in sys.modules, f"{absent} was imported before the settings"
    sys.modules[absent] = None  # type: ignore[assignment]
