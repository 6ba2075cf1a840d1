"""Outcomes that cannot be written now, or not as they are, do not hold up the others."""

import pytest

from tasks import enqueue, enqueue_many
from tasks.enqueueing import build
from tasks.models import Failure, LogLine, Task
from tests.acceptance.fleet import PATIENCE, Fleet, connect, counts, ids, journal_of, until_done
from tests.services.host import Host
from tests.services.waiting import wait_for


@pytest.mark.timeout(240)
def test_a_row_locked_by_somebody_does_not_hold_up_the_outcomes_of_others(
    postgres_host: Host,
) -> None:
    journal = journal_of(postgres_host)
    Fleet(postgres_host).ready()
    locked = enqueue("work.gate")
    wait_for(lambda: journal.started(locked), timeout=PATIENCE)

    with connect(postgres_host) as connection, connection.transaction():
        connection.execute("SELECT 1 FROM tasks_task WHERE id = %s FOR UPDATE", [locked.pk])
        connection.execute("CREATE TEMPORARY TABLE since AS SELECT clock_timestamp() AS at")
        journal.open_gate(locked)
        waves = 0
        while waves < 2 or not five_seconds_passed(connection):
            wave = enqueue_many([build("work.noop") for _ in range(50)])
            until_done(ids(wave), timeout=30)
            waves += 1
            locked.refresh_from_db()
            assert locked.state == "running"

    until_done()
    locked.refresh_from_db()
    assert (locked.state, locked.attempts) == ("completed", 1)
    assert len(journal.started(locked)) == 1


def five_seconds_passed(connection) -> bool:
    row = connection.execute("SELECT clock_timestamp() - at > '5 s' FROM since").fetchone()
    return row[0]


RESULTS = {
    "NUL": "result = {'a\\0b': ['\\0']}",
    "lone surrogates": "result = ['\\ud800', '\\udfff\\ud800', {'\\udc00': 1}]",
    "NaN": "result = [float('nan'), float('inf'), -float('inf'), 1e308]",
    "deep nesting": "result = []\nfor _ in range(100_000): result = [result]",
    "shallow nesting": "result = []\nfor _ in range(200): result = [result]",
    "a huge number": "result = 10 ** 4000",
    "a number too long to print": "result = 10 ** 100_000",
    "a huge float exponent": "result = float('1e308') * -1",
    "an object": "result = object()",
    "a circle": "result = []; result.append(result)",
    "bytes": "result = b'\\xff'",
    "a set": "result = {1}",
    "keys of many kinds": "result = {1: 2, None: 3, True: 4, 1.5: 5}",
    "keys that are no JSON": "result = {(1, 2): 3}",
    "keys that cannot be compared": "result = {'1': 2, 1: 3}",
    "5 MB": "result = 'x' * 5_000_000",
    "backslashes": "result = '\\\\u0000 \\\\ud800'",
    "an unprintable object": "result = Unprintable()",
    "a dictionary that raises": (
        "class Bad(dict):\n    def items(self): raise RuntimeError('no items')\nresult = Bad(a=1)"
    ),
}
ERRORS = {
    "NUL": "raise ValueError('a\\0b')",
    "lone surrogates": "raise ValueError('\\ud800')",
    "5 MB": "raise ValueError('x' * 5_000_000)",
    "no text": "raise Unprintable()",
    "no text in a chain": "try: raise Unprintable()\nexcept Exception as e: raise OSError from e",
    "a strange class": "raise type('A\\ud800\\n' * 300, (Exception,), {})()",
    "a long chain": (
        "error = None\nfor n in range(3000):\n    new = ValueError(n)\n    new.__cause__ = error\n"
        "    error = new\nraise error"
    ),
    "recursion": "def down(): down()\ndown()",
    "a group": "raise ExceptionGroup('g', [ValueError('\\0'), Unprintable()])",
    "exit": "raise SystemExit(3)",
    "interrupt": "raise KeyboardInterrupt",
    "generator exit": "raise GeneratorExit",
    "stop iteration": "raise StopIteration(1)",
    "fail": "from tasks import Fail\nraise Fail('\\0\\ud800' + 'x' * 5_000_000)",
    "fail without text": "from tasks import Fail\nraise Fail(None)",
    "fail with an object": "from tasks import Fail\nraise Fail(Unprintable())",
    "notes": "error = ValueError('a')\nerror.add_note('\\0\\ud800')\nraise error",
    "a memory error": "raise MemoryError",
}
ENDED_OTHERWISE = {
    "cancel": ("cancelled", "from tasks import Cancel\nraise Cancel('\\0' * 1000)"),
    "cancel without text": ("cancelled", "from tasks import Cancel\nraise Cancel(None)"),
    "log": (
        "completed",
        "task.log('\\0\\ud800'); task.log('x' * 5_000_000); task.log(10 ** 4000)\n"
        "for n in range(600): task.log(n)",
    ),
    "logging": (
        "completed",
        "log.info('%s', Unprintable()); log.info('\\0%s', '\\ud800'); log.info('x' * 5_000_000)\n"
        "log.info('%d', 'not a number'); log.log(2 ** 40, 'a level'); log.exception('none')",
    ),
    "an unprintable line": ("failed", "task.log(Unprintable())"),
    "a level that no column holds": ("completed", "task.log('a', level=10 ** 12)"),
    "progress": ("completed", "task.progress(float('nan'), float('inf')); task.progress(2**70)"),
    "progress of no numbers": ("failed", "task.progress(object(), '\\0')"),
    "an open transaction": (
        "completed",
        "from django.db import transaction\ntransaction.set_autocommit(False)",
    ),
    "a broken transaction": (
        "failed",
        "from django.db import connection\nconnection.cursor().execute('BEGIN; SELECT 1/0')",
    ),
}
RETRIES = {
    "never": "from tasks import Retry\nraise Retry(after=1e300)",
    "not a number": "from tasks import Retry\nraise Retry(after=float('nan'))",
    "poison": "from tasks import Retry\nraise Retry('\\0\\ud800', after=0)",
    "the end of time": "from tasks import Retry\nraise Retry(after=3600 * 24 * 365 * 7000)",
}


def poison(state: str, code: str, max_attempts: int = 1) -> tuple[str, Task]:
    return state, build("work.poison", {"code": code}, max_attempts=max_attempts)


@pytest.mark.timeout(300)
def test_no_result_error_or_log_line_that_a_handler_gives_holds_up_its_own_or_other_tasks(
    postgres_host: Host,
) -> None:
    expected = {
        **{f"result: {name}": poison("completed", code) for name, code in RESULTS.items()},
        **{f"error: {name}": poison("failed", code) for name, code in ERRORS.items()},
        **{name: poison(*given) for name, given in ENDED_OTHERWISE.items()},
    }
    again = {name: poison("scheduled", code, 2) for name, code in RETRIES.items()}
    innocent = [build("work.noop") for _ in range(len(expected) * 3)]
    given = [task for _, task in expected.values()]
    mixed = [task for group in zip(given, *[iter(innocent)] * 3, strict=True) for task in group]
    for task in mixed:
        # Or they would run in the order in which they were built, the innocent ones last.
        task.run_at = mixed[0].run_at
    enqueue_many(mixed)
    fleet = Fleet(postgres_host, "--processes", 2)
    until_done(ids(innocent))
    until_done(ids(given))

    rows = {task.pk: task for task in Task.objects.all()}
    found = {name: rows[task.pk].state for name, (_, task) in expected.items()}
    assert found == {name: state for name, (state, _) in expected.items()}, fleet.output
    assert all(rows[task.pk].attempts == 1 for task in mixed)
    assert Failure.objects.count() == counts()["failed"]
    assert rows[expected["result: NUL"][1].pk].result == {"a\ufffdb": ["\ufffd"]}

    enqueue_many([task for _, task in again.values()])
    tried = ids([task for _, task in again.values()]).filter(failures__attempt=1)
    wait_for(lambda: tried.count() == len(again), timeout=PATIENCE, what=fleet.output)
    last = enqueue_many([build("work.noop") for _ in range(20)])
    until_done(ids(last))
    assert fleet.terminate() == 0
    # A task may be seen completed a moment before its last lines.
    assert LogLine.objects.filter(task=expected["log"][1]).count() == 501
