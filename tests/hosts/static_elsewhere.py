"""The example host with static files under hashed names, on a server of their own without CORS."""

from tests.settings import *  # noqa: F403
from tests.settings import env

STATIC_ROOT = env.str("TEST_STATIC_ROOT")
STATIC_URL = env.str("TEST_STATIC_URL")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
