"""Fixtures with real services. See tests/plugin.py for the database of the test session itself."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
import pytest
from django.utils import timezone, translation

from tests import plugin
from tests.ids import begin_ids
from tests.services.databases import DatabaseServer
from tests.services.host import Host
from tests.services.postgres import Postgres
from tests.services.processes import needed, program
from tests.services.redis import Redis
from tests.services.smtp import Mailbox
from tests.services.sqlite import SQLite
from tests.services.templates import fresh_host

DATABASE_FIXTURES = ("db", "transactional_db", "django_db_reset_sequences")

# A machine that does something else for a moment is not a failure. In CI, which judges a change,
# the examples are the same each time; elsewhere every run looks for new ones.
hypothesis.settings.register_profile("aftersave", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("aftersave")


@pytest.fixture(scope="module", autouse=True)
def _known_ids(request: pytest.FixtureRequest, django_db_blocker: Any) -> None:
    own = (item for item in request.session.items if request.node in item.listchain())
    if any(_has_database(item) for item in own):
        request.getfixturevalue("django_db_setup")
        with django_db_blocker.unblock():
            begin_ids()


@pytest.fixture(autouse=True)
def _own_language() -> None:
    """A test's requests leave their language and zone to the thread, and so to the next test."""
    translation.deactivate()
    timezone.deactivate()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory short enough for the path of a Unix socket."""
    with TemporaryDirectory(prefix="aftersave-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def session_path() -> Iterator[Path]:
    with TemporaryDirectory(prefix="aftersave-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


@pytest.fixture(scope="session")
def _postgres() -> Iterator[Postgres]:
    yield from _running_postgres(major=18)


@pytest.fixture
def postgres_server(_postgres: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL for hosts alone: `.stop(mode)`, `.start()` and `.restart(mode)` as you like."""
    _postgres.start()
    yield _postgres
    _postgres.start()


@pytest.fixture(scope="session")
def postgres16_server() -> Iterator[Postgres]:
    yield from _running_postgres(major=16)


@pytest.fixture(scope="session")
def _sqlite(session_path: Path) -> SQLite:
    return SQLite(_made(session_path / "sqlite"))


@pytest.fixture(scope="session")
def _redis(session_path: Path) -> Iterator[Redis]:
    with needed():
        server = Redis(session_path)
    yield server
    server.stop()


@pytest.fixture
def redis_server(_redis: Redis) -> Iterator[Redis]:
    """A Redis that a test may stop and start again."""
    yield _redis
    if _redis.process.poll() is not None:
        _redis.start()


@pytest.fixture
def redis_url(redis_server: Redis) -> str:
    return redis_server.url


@pytest.fixture
def redis_layer(redis_url: str, settings: Any) -> None:
    """Channels through Redis."""
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [redis_url]},
        }
    }


@pytest.fixture
def smtp_server() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    yield mailbox
    mailbox.stop()


@pytest.fixture
def make_host(
    request: pytest.FixtureRequest, short_path: Path, django_db_blocker: Any
) -> Iterator[Callable[..., Host]]:
    """Makes a `Host` on a database server; the first one made is the ORM's `default` here too."""
    mixed = set(DATABASE_FIXTURES) & set(request.fixturenames)
    assert not mixed, f"a test has a host of its own or {mixed}, not both"
    with ExitStack() as stack:

        def make(server: DatabaseServer) -> Host:
            host = fresh_host(server, _made(short_path / str(len(hosts))))
            stack.callback(host.stop)
            if not hosts:
                stack.enter_context(django_db_blocker.unblock())
                stack.enter_context(host.as_default_database())
            hosts.append(host)
            return host

        hosts: list[Host] = []
        yield make


@pytest.fixture
def host(request: pytest.FixtureRequest, make_host: Callable[..., Host]) -> Host:
    """A host on the database that TEST_DB names: PostgreSQL's is `postgres_server`."""
    if plugin.TEST_DB == "postgres":
        return make_host(request.getfixturevalue("postgres_server"))
    return make_host(plugin.server)


@pytest.fixture
def postgres_host(postgres_server: Postgres, make_host: Callable[..., Host]) -> Host:
    """A host on PostgreSQL, whatever TEST_DB says."""
    return make_host(postgres_server)


@pytest.fixture
def sqlite_host(_sqlite: SQLite, make_host: Callable[..., Host]) -> Host:
    """A host on an SQLite file, whatever TEST_DB says."""
    return make_host(_sqlite)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Playwright's `Browser` in Debian's Chromium, for the tests of one module."""
    from playwright.sync_api import sync_playwright

    with needed():
        path = program("chromium", "chromium-browser", "google-chrome", package="chromium")
    flags = ("no-sandbox", "disable-gpu", "disable-background-networking", "disable-quic")
    more = ("disable-component-update", "disable-sync", "no-first-run", "disable-dev-shm-usage")
    # Playwright's loop runs in this thread, and Django refuses the ORM where a loop runs.
    with sync_playwright() as playwright, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        arguments = [f"--{flag}" for flag in (*flags, *more)]
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """An empty page with cookies of its own; errors of its scripts fail the test."""
    context = chromium.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors, errors


def _running_postgres(*, major: int) -> Iterator[Postgres]:
    with TemporaryDirectory(prefix="aftersave-", ignore_cleanup_errors=True) as directory:
        server = Postgres(Path(directory), major=major)
        try:
            yield server
        finally:
            server.stop("immediate")


def _has_database(item: Any) -> bool:
    names = {*DATABASE_FIXTURES, "live_server"} & set(item.fixturenames)
    return bool(names) or item.get_closest_marker("django_db") is not None


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
