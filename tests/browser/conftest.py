import pytest

from tests.browser.walk import hire, paint
from tests.services.host import Host


@pytest.fixture
def walk(sqlite_host: Host) -> dict[str, str]:
    """Every page about a painted scene, by name."""
    hire()
    return paint()
