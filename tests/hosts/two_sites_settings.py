"""The example host with a second admin site."""

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.hosts.two_sites"
