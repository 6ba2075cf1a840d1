from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from tests.plugin import TEST_DB
from tests.tasks.dashboard.live_tools import Loop, Open, Reader, headers_of, socket_on

#: About PostgreSQL alone; the big tables have servers of their own, so once is enough.
collect_ignore = [] if TEST_DB == "postgres" else ["test_big_tables.py", "test_live_notify.py"]


@pytest.fixture
def open_socket(settings: Any) -> Iterator[Open]:
    """Opens sockets of pages; at the end they are closed."""
    settings.ALLOWED_HOSTS = ["testserver"]
    loop = Loop()
    readers: list[Reader] = []

    def open_one(
        client: Client, address: str = "", *, origin: str | None = "http://testserver"
    ) -> Reader:
        headers = headers_of(client, origin)
        readers.append(Reader(loop, address or socket_on(client), headers))
        return readers[-1]

    yield open_one
    for reader in readers:
        reader.leave()
    loop.close()
