"""The example host under the theme Unfold, which loads an htmx 2 of its own on every page."""

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = ["unfold", *INSTALLED_APPS]
