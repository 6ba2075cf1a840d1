"""The example host with the benchmark's handlers: its pages are what people look at."""

import os
from typing import Any

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "benchmarks.host.bench"]
DEBUG = False
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "USER": os.environ["PGUSER"],
        "NAME": os.environ["PGDATABASE"],
    }
}
LOGGING = {"version": 1, "disable_existing_loggers": False}
