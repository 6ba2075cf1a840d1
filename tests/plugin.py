"""Starts the database that TEST_DB names before Django's settings are read.

TEST_DB is `sqlite` (the default), `postgres` or `mariadb`. Registered with `-p` in pyproject.toml:
a conftest is too late, pytest-django has read the settings by then.
"""

import atexit
import os
import signal
import tempfile
from pathlib import Path

import pytest

from tests.services.databases import DatabaseServer, start_database_server
from tests.services.processes import ServiceMissing

TEST_DB = os.environ.get("TEST_DB", "sqlite")
server: DatabaseServer


def start() -> None:
    global server
    directory = tempfile.TemporaryDirectory(prefix="aftersave-", ignore_cleanup_errors=True)
    atexit.register(directory.cleanup)
    try:
        server = start_database_server(TEST_DB, Path(directory.name))
    except ServiceMissing as error:
        raise pytest.UsageError(f"TEST_DB={TEST_DB}: {error}") from error
    atexit.register(server.stop)
    os.environ["DATABASE_URL"] = server.url("aftersave")
    os.environ["OTHER_DATABASE_URL"] = server.url("aftersave_other")
    os.environ["SECRET_KEY"] = "tests-only"
    for variable in ("REDIS_URL", "EMAIL_URL", "CRM_URL", "DEBUG", "ALLOWED_HOSTS"):
        os.environ.pop(variable, None)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Ended by a signal, the session still stops what it started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start()


def pytest_report_header() -> str:
    return f"database: {TEST_DB}, {server.version}"
