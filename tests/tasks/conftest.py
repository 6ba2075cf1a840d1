"""What a test registers is gone after it; files about one database are collected on it alone."""

from collections.abc import Iterator

import pytest

from tasks import bell, page_bell, rules
from tasks.handlers import registry
from tests.plugin import TEST_DB

collect_ignore = [] if TEST_DB == "postgres" else ["test_ring_heard.py", "test_row_locks.py"]


@pytest.fixture(autouse=True)
def _forget_rules() -> Iterator[None]:
    saves = {model: list(known) for model, known in rules._save_rules.items()}
    events = {name: list(known) for name, known in rules._event_rules.items()}
    yield
    # Models stay known: their receivers stay connected.
    for model in rules._save_rules:
        rules._save_rules[model][:] = saves.get(model, [])
    rules._event_rules.clear()
    rules._event_rules.update(events)


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
