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


@pytest.mark.timeout(150)
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
        first = backends(connection, own)
        # One for each thread that runs handlers, the engine's, and the session.
        assert len(first) == THREADS + 2
        for _ in range(3):
            work()
            assert backends(connection, own).keys() == first.keys()
        assert not Failure.objects.exists()

        kinds = {"the session": [], "the engine": [], "handlers": []}
        for pid, query in first.items():
            handler = "workload_effect" in query or query in ("COMMIT", "BEGIN")
            session = "advisory" in query or "LISTEN" in query
            kind = "the session" if session else "handlers" if handler else "the engine"
            kinds[kind].append(pid)
        assert [len(pids) for pids in kinds.values()] == [1, 1, THREADS], first
        for pids in kinds.values():
            before = Failure.objects.count()
            for pid in pids:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
            wait_for(lambda pids=pids: not backends(connection, own).keys() & set(pids))
            work()
            # A handler thread learns of it from the first statement that fails.
            assert Failure.objects.count() - before <= len(pids)
            wait_for(
                lambda: len(backends(connection, own)) == THREADS + 2, timeout=PATIENCE, what="all"
            )

    assert counts() == {"completed": 700}
    assert fleet.terminate() == 0
