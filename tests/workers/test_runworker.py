import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from channels.management.commands.runworker import Command as ChannelsCommand
from django.core.management import CommandError, call_command, get_commands, load_command_class

from tasks.checks import check_app_order
from tasks.models import Task
from tests.services.waiting import wait_for
from workers import supervisor as supervising
from workers.management.commands.runworker import Command
from workers.runner import Options
from workers.supervisor import LONGEST_PAUSE, FileChanges, RunnerProcess, Supervisor
from workers.waiting import Alarm

pytestmark = pytest.mark.django_db


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Options, int]]:
    """What the command would have started."""
    seen: list[tuple[Options, int]] = []

    def run(self: Supervisor) -> int:
        seen.append((self.options, len(self.starts)))
        return 0

    monkeypatch.setattr(Supervisor, "run", run)
    return seen


def runworker(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command("runworker", *arguments)
    assert ended.value.code == 0


def test_runworker_is_ours() -> None:
    assert get_commands()["runworker"] == "workers"
    assert isinstance(load_command_class("workers", "runworker"), Command)


def test_the_defaults_are_one_process_for_all_queues(started: Any) -> None:
    runworker()
    assert started == [(Options(), 1)]


def test_a_terminal_shows_that_the_worker_runs(started: Any, capsys: Any) -> None:
    runworker()
    runworker("--queues", "crm,reviews")
    runworker("--verbosity", "0")
    assert capsys.readouterr().out.splitlines() == [
        "Runs the tasks of every queue on the database 'default'. Ctrl-C ends it.",
        "Runs the tasks of the queues crm, reviews on the database 'default'. Ctrl-C ends it.",
    ]


def test_options_reach_the_worker(started: Any) -> None:
    runworker(
        *("--processes", "2", "--threads", "8", "--coroutines", "0", "--queues", " a, b,,"),
        *("--drain", "--grace", "1.5"),
    )
    expected = Options(queues=["a", "b"], threads=8, coroutines=0, drain=True, grace=1.5)
    assert started == [(expected, 2)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--database", "nowhere"], "'nowhere' is not one of default"),
        (["--processes", "0"], "at least 1"),
        (["--threads", "-1"], "negative"),
        (["--threads", "0", "--coroutines", "0"], "nothing to run"),
        (["--threads", "many"], "invalid int value"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    started: Any, arguments: list[str], why: str
) -> None:
    with pytest.raises(CommandError, match=why):
        call_command("runworker", *arguments)
    assert started == []


def test_a_database_without_our_tables_is_refused_with_the_command_to_run(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Task._meta, "db_table", "tasks_not_yet_migrated")
    with pytest.raises(CommandError, match="migrate --database default"):
        call_command("runworker")
    assert started == []


def test_channel_names_start_channels_own_worker(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: list[Any] = []
    monkeypatch.setattr(
        ChannelsCommand, "handle", lambda self, *args, **options: handed.append(options)
    )
    call_command("runworker", "mail", "sms", "--layer", "second")
    assert (handed[0]["channels"], handed[0]["layer"]) == (["mail", "sms"], "second")
    assert started == []


def test_an_order_of_apps_in_which_channels_hides_us_is_an_error(settings: Any) -> None:
    assert check_app_order() == []
    apps = [name for name in settings.INSTALLED_APPS if name != "workers"]
    settings.INSTALLED_APPS = [*apps, "workers"]
    (found,) = check_app_order()
    assert found.id == "aftersave.E003"
    assert "Move 'workers' up" in str(found.hint)


class Runner:
    """A process in the place of a runner: ends with the code its name says, or lives on."""

    def __init__(self, code: str) -> None:
        self.report, self.theirs = os.pipe()
        os.set_blocking(self.report, False)
        self.process = subprocess.Popen([sys.executable, "-c", f"import time; {code}"])
        self.born = time.monotonic()
        self.worker_ids: list[int] = []

        self.orders = 0

    read_report = RunnerProcess.read_report

    def order_to_stop(self) -> None:
        self.orders += 1

    def bury(self) -> list[int]:
        self.read_report()
        os.close(self.report)
        os.close(self.theirs)
        return self.worker_ids


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor(Options(), processes=0)
    yield supervisor
    for runner in supervisor.runners:
        runner.process.kill()
        runner.process.wait()


def add(supervisor: Supervisor, code: str) -> Runner:
    runner = Runner(code)
    supervisor.runners.append(runner)  # type: ignore[arg-type]
    supervisor._selector.register(runner.report, 1, runner)
    return runner


def ended(supervisor: Supervisor, code: str, *, ids: bytes = b"") -> None:
    runner = add(supervisor, code)
    os.write(runner.theirs, ids)
    runner.process.wait(20)
    supervisor._reap()


def test_ids_that_a_dead_runner_reported_are_to_be_rescued(supervisor: Supervisor) -> None:
    ended(supervisor, "exit(1)", ids=b"12\n9007199254740991\n")
    assert supervisor.dead == [12, 9007199254740991]
    assert supervisor.runners == []
    assert len(supervisor.starts) == 1


def test_runners_that_die_at_once_are_replaced_ever_later(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As it is logged: what the processes took to start and to end would count as well.
    pauses: list[float] = []
    monkeypatch.setattr(supervising.log, "runner_died", lambda *died: pauses.append(died[-1]))
    for _ in range(3):
        before = time.monotonic()
        ended(supervisor, "exit(1)")
        assert before + pauses[-1] <= supervisor.starts.pop() <= time.monotonic() + pauses[-1]
    assert 0 < pauses[0] < pauses[1] < pauses[2] <= LONGEST_PAUSE


def test_a_runner_that_ended_in_order_is_replaced_at_once_and_not_when_drained(
    supervisor: Supervisor,
) -> None:
    ended(supervisor, "exit(0)")
    assert supervisor.starts.pop() <= time.monotonic()
    supervisor.options.drain = True
    ended(supervisor, "exit(0)")
    assert supervisor.starts == []
    ended(supervisor, "exit(1)")
    assert len(supervisor.starts) == 1


def test_after_a_signal_nothing_is_started_and_the_grace_is_enforced(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "MARGIN", 0.0)
    supervisor.options.grace = 0.0
    runner = add(supervisor, "time.sleep(60)")
    supervisor.starts = [0.0]
    supervisor._signalled()
    supervisor._start_due()
    assert (supervisor.runners, runner.orders) == ([runner], 1)
    wait_for(lambda: time.monotonic() > (supervisor.kill_at or 0.0), what="the grace")
    supervisor._enforce_grace()
    assert runner.process.wait(10) == -signal.SIGKILL
    supervisor._reap()
    assert (supervisor.starts, supervisor.runners) == ([], [])


def test_a_supervisor_told_to_stop_does_not_wait_for_starts_to_come(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    supervisor.starts = [time.monotonic() + 60]
    supervisor._signalled()
    assert supervisor.run() == 0


def test_a_changed_file_is_told_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "just_written_module.py"
    module.write_text("x = 1")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__("just_written_module")
    changes = FileChanges()
    assert not changes()
    os.utime(module, (1, 1))
    assert changes()
    assert not changes()


def test_an_alarm_rung_before_the_sleep_ends_it() -> None:
    alarm = Alarm()
    alarm.wake()
    began = time.monotonic()
    alarm.sleep(30)
    threading.Timer(0.05, alarm.wake).start()
    alarm.sleep(30)
    assert time.monotonic() - began < 10


def test_an_alarm_knows_when_the_supervisor_is_gone() -> None:
    read, write = os.pipe()
    alarm = Alarm(read)
    alarm.sleep(0)
    assert not alarm.orphaned
    os.close(write)
    alarm.sleep(30)
    assert alarm.orphaned
    alarm.sleep(0)
    os.close(read)


def test_an_alarm_counts_the_supervisors_orders() -> None:
    read, write = os.pipe()
    alarm = Alarm(read)
    for expected in (1, 2):
        os.write(write, b"!")
        alarm.sleep(30)
        assert alarm.orders == expected
    assert not alarm.orphaned
    os.close(write)
    os.close(read)


def test_an_alarm_wakes_when_its_ear_is_readable_until_it_listens_to_none() -> None:
    read, write = os.pipe()
    ear = os.fdopen(read, "rb")
    alarm = Alarm()
    alarm.listen_to(ear)
    os.write(write, b"!")
    began = time.monotonic()
    alarm.sleep(30)
    assert time.monotonic() - began < 10
    alarm.listen_to(None)
    assert select.select([ear], [], [], 0)[0], "nobody has read it"
    began = time.monotonic()
    alarm.sleep(0.1)
    assert time.monotonic() - began > 0.05
    ear.close()
    alarm.sleep(0)
    os.close(write)
