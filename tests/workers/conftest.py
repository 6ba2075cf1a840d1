"""What a test registers is gone after it; files about PostgreSQL are collected on it alone."""

from collections.abc import Iterator

import pytest

from tasks import bell, page_bell
from tasks.handlers import registry
from tests.plugin import TEST_DB
from workers import claim

collect_ignore = [] if TEST_DB == "postgres" else ["test_plans.py", "test_session.py"]


@pytest.fixture(autouse=True)
def _forget_handlers() -> Iterator[None]:
    known = dict(registry._handlers)
    yield
    registry._handlers.clear()
    registry._handlers.update(known)


@pytest.fixture(autouse=True)
def _forget_rings() -> None:
    bell._last_rung.clear()
    page_bell._bells.clear()


@pytest.fixture(autouse=True)
def _forget_statements() -> None:
    # They are kept by alias, and a test's host is another database under the same alias.
    claim._one_statement.cache_clear()
