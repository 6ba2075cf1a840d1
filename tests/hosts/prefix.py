"""The example host below a path prefix, which the web server is told: daphne --root-path."""

from tests.settings import *  # noqa: F403
