"""PostgreSQL: what other processes change reaches pages through NOTIFY."""

import pytest
from django.db import connection

from tests.tasks.admin_rows import staff
from tests.tasks.dashboard.live_tools import Open
from tests.tasks.dashboard.test_live_ways import (
    hears_no_own_bell,  # noqa: F401
    live_through,
    sees_what_is_new,
)

pytestmark = pytest.mark.django_db(transaction=True)

LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN aftersave_pages%%'"


def test_through_postgresql_also_when_the_connection_broke(open_socket: Open) -> None:
    reader = open_socket(staff("view_task"))
    reader.hear_until(live_through("postgresql"))
    assert sees_what_is_new(reader)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_terminate_backend(pid) FROM ({LISTENERS}) listeners")
    reader.hear_until(live_through("look"))
    reader.hear_until(live_through("postgresql"))
    assert sees_what_is_new(reader)
