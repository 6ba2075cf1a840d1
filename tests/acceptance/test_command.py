"""`runworker` as an operator uses it."""

import os
from pathlib import Path
from typing import Any

import pytest

from tasks import enqueue, enqueue_many
from tasks.enqueueing import build
from tasks.models import Task, Worker
from tests.acceptance.fleet import (
    PATIENCE,
    Fleet,
    connect,
    counts,
    ids,
    journal_of,
    until_done,
    write,
)
from tests.services.host import Host
from tests.services.waiting import wait_for

UNKNOWN = 10_000


@pytest.mark.timeout(180)
def test_with_channel_names_it_is_channels_own_worker(postgres_host: Host) -> None:
    task = enqueue("work.noop")
    worker = postgres_host.popen("runworker", "thumbnails")

    # The example host routes no channels, and Channels' worker is who says so.
    def said_by_channels() -> bool:
        return worker.poll() is not None or "Running worker for channels" in worker.output()

    wait_for(said_by_channels, timeout=PATIENCE, what="Channels' worker")
    assert "channels" in worker.output()
    assert worker.descendants() == []
    assert not Worker.objects.exists()
    task.refresh_from_db()
    assert task.state == "scheduled"


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--database", "nowhere"], "--database 'nowhere' is not one of"),
        (["--processes", "0"], "--processes must be at least 1"),
        (["--threads", "-1"], "--threads and --coroutines cannot be negative"),
        (["--threads", "0", "--coroutines", "0"], "leaves nothing to run a handler"),
        (["--threads", "many"], "invalid int value: 'many'"),
        (["--queues", ","], "--queues"),
        (["--grace", "-1"], "--grace"),
    ],
)
def test_an_impossible_option_is_a_clear_error(
    sqlite_host: Host, options: list[str], complaint: str
) -> None:
    done = sqlite_host.manage("runworker", *options, check=False)

    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(240)
def test_drain_ends_when_nothing_is_due_that_it_could_run(postgres_host: Host) -> None:
    enqueue_many([build("work.effect") for _ in range(100)])
    enqueue_many([build("nobody.home", priority=9) for _ in range(10)])
    first = enqueue("work.async")
    enqueue("work.noop", after=[first])
    enqueue("work.noop", delay=3600)

    fleet = Fleet(postgres_host, "--processes", 2, "--drain")

    assert fleet.end() == 0
    assert counts() == {"completed": 102, "scheduled": 11}
    assert set(Task.objects.named("nobody.home").values_list("attempts", flat=True)) == {0}
    assert Fleet(postgres_host, "--drain", "--queues", "empty").end() == 0


@pytest.mark.timeout(240)
def test_many_tasks_of_an_unknown_name_neither_starve_the_others_nor_keep_the_worker_busy(
    postgres_host: Host,
) -> None:
    enqueue_many([build("nobody.home", priority=9) for _ in range(UNKNOWN)])
    known = enqueue_many([build("work.noop") for _ in range(20)])
    fleet = Fleet(postgres_host)
    until_done(ids(known))
    assert "No handler for task name 'nobody.home'" in fleet.output
    assert fleet.output.count("nobody.home") == 1

    with connect(postgres_host) as connection:
        statement = (
            "SELECT coalesce(sum(xact_commit + xact_rollback), 0) FROM pg_stat_database"
            " WHERE datname = current_database()"
        )

        def transactions() -> int:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            return int(connection.execute(statement).fetchone()[0])

        [worker] = fleet.registered()
        heartbeats = Worker.objects.filter(pk=worker).values_list("heartbeat_at", flat=True)

        def next_heartbeat(last: object) -> Any:
            wait_for(lambda: heartbeats.get() != last, timeout=30, every=1)
            return heartbeats.get()

        begun, before = next_heartbeat(heartbeats.get()), transactions()
        ended, after = next_heartbeat(begun), transactions()
    # Each look may be followed by one claim in vain; this test's own questions are some more.
    seconds = (ended - begun).total_seconds()
    assert after - before < 6 * seconds + 20
    nobody = Task.objects.named("nobody.home")
    assert nobody.filter(state="scheduled", due=True, attempts=0).count() == UNKNOWN


@pytest.mark.timeout(240)
def test_priority_holds_inside_a_queue_and_queues_take_turns(postgres_host: Host) -> None:
    journal = journal_of(postgres_host)
    first = [
        build("work.journal", {"sleep": 0.01}, queue="first", priority=n % 5) for n in range(60)
    ]
    second = [build("work.journal", {"sleep": 0.01}, queue="second") for _ in range(10)]
    enqueue_many([*first, *second])
    assert Fleet(postgres_host, "--threads", 1, "--drain").end() == 0

    order = [entry.task for entry in journal.entries("start")]
    rows = ids([*first, *second]).in_bulk()
    # What a worker that stood still gave back, others have passed: it was claimed twice.
    once = [rows[pk] for pk in order if rows[pk].queue == "first" and rows[pk].lease == 1]
    own = [row.priority for row in once]
    assert own == sorted(own, reverse=True)
    assert len(own) > 40
    place_of_last_second = max(i for i, pk in enumerate(order) if rows[pk].queue == "second")
    assert place_of_last_second < 40


@pytest.mark.timeout(180)
def test_only_the_given_queues_are_served(postgres_host: Host) -> None:
    enqueue_many([build("work.noop", queue=name) for name in ("mail", "crm", "other")])

    assert Fleet(postgres_host, "--queues", "mail, crm", "--drain").end() == 0

    done = Task.objects.completed().values_list("queue", flat=True)
    assert sorted(done) == ["crm", "mail"]


HANDLERS = """
import os
from tasks import handler

@handler("reload.answer")
def answer(task):
    return {"answer": %d, "pid": os.getpid()}
"""


@pytest.mark.timeout(240)
def test_autoreload_takes_new_code_into_use(postgres_host: Host) -> None:
    project = postgres_host.directory / "project"
    module = project / "reloaded" / "handlers.py"
    project.mkdir()
    write(project / "reloaded" / "__init__.py", "")
    write(module, HANDLERS % 1)
    write(
        project / "reloading_settings.py",
        "from tests.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'reloaded']\n",
    )
    postgres_host.env["DJANGO_SETTINGS_MODULE"] = "reloading_settings"
    postgres_host.env["PYTHONPATH"] = os.pathsep.join(
        [str(project), os.environ.get("PYTHONPATH", "")]
    )
    fleet = Fleet(postgres_host, "--autoreload").ready()
    before = answer_of_next_task()
    assert before["answer"] == 1

    touch_as_new(module, HANDLERS % 2)
    wait_for(lambda: before["pid"] not in fleet.pids(), timeout=PATIENCE, what="a new process")

    assert answer_of_next_task()["answer"] == 2
    assert fleet.terminate() == 0


def answer_of_next_task() -> dict[str, int]:
    task = enqueue("reload.answer")
    until_done()
    task.refresh_from_db()
    return task.result


def touch_as_new(path: Path, text: str) -> None:
    # Python takes compiled code whose source has the same length and time, in whole seconds.
    before = path.stat().st_mtime
    path.write_text(text)
    os.utime(path, (before + 10, before + 10))
