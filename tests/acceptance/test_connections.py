"""Worker processes keep a handful of connections, and replace those that break."""

import pytest

from tasks import enqueue_many
from tasks.enqueueing import build
from tasks.models import Failure
from tests.acceptance.fleet import PATIENCE, Fleet, connect, counts, ids, until_done
from tests.services.host import Host
from tests.services.waiting import wait_for

THREADS = 3

_BACKENDS = """
SELECT pid, query FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
  AND pid <> pg_backend_pid() AND pid <> %s
"""


def backends(connection, own: int) -> dict[int, str]:
    """Pid and last statement of every connection that is not the test's."""
    return dict(connection.execute(_BACKENDS, [own]).fetchall())


def kinds(connection, own: int) -> dict[str, set[int]]:
    """Pids by what the connections are for, by the last statement of each."""
    found: dict[str, set[int]] = {"the session": set(), "the engine": set(), "handlers": set()}
    for pid, query in backends(connection, own).items():
        handler = "workload_effect" in query or query in ("COMMIT", "BEGIN")
        session = "advisory" in query or "LISTEN" in query
        found["the session" if session else "handlers" if handler else "the engine"].add(pid)
    return found


def settled(connection, own: int) -> dict[str, set[int]]:
    """The kinds once there is one for each thread that runs handlers, the engine's, the session.

    Housekeeping has one for the length of its round, and the engine's last statement may be a
    COMMIT until it looks again.
    """

    def found() -> dict[str, set[int]]:
        now = kinds(connection, own)
        return now if [len(pids) for pids in now.values()] == [1, 1, THREADS] else {}

    return wait_for(found, timeout=PATIENCE, what="the connections of a worker at rest")


@pytest.mark.timeout(240)
def test_connections_do_not_grow_in_number_and_broken_ones_are_replaced(
    postgres_host: Host,
) -> None:
    from django.db import connection as orm

    orm.ensure_connection()
    own = orm.connection.info.backend_pid
    # Django's default: the worker keeps its connections in spite of it.
    assert orm.settings_dict["CONN_MAX_AGE"] == 0
    postgres_host.configure(BACKOFF_BASE=0.05)
    fleet = Fleet(postgres_host, "--threads", THREADS).ready()

    def work(count: int = 100) -> None:
        kinds = (("work.effect", {"sleep": 0.005}), ("work.atomic", {"sleep": 0.005}))
        until_done(ids(enqueue_many([build(*kinds[n % 2]) for n in range(count)])))

    with connect(postgres_host) as connection:
        work()
        first = settled(connection, own)
        for _ in range(3):
            work()
            assert settled(connection, own) == first
        assert not Failure.objects.exists()

        for kind in first:
            before = Failure.objects.count()
            # Not those of the beginning: with its session the engine replaces its own.
            broken = settled(connection, own)[kind]
            for pid in broken:
                ended = connection.execute("SELECT pg_terminate_backend(%s)", [pid]).fetchone()
                assert ended == (True,)
            wait_for(lambda broken=broken: not backends(connection, own).keys() & broken)
            work()
            # A handler thread learns of it from the first statement that fails.
            assert Failure.objects.count() - before <= len(broken)
        settled(connection, own)

    assert counts() == {"completed": 700}
    assert fleet.terminate() == 0
