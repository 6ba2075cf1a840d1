"""The example host in German."""

from tests.settings import *  # noqa: F403

LANGUAGE_CODE = "de"
