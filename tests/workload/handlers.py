"""Handlers of the test suite: what they do is seen in Effect rows."""

import asyncio
import logging
import os
import signal
import time

from tasks import Cancel, Fail, Retry, handler
from tests.workload.journal import note, wait_at_gate
from tests.workload.models import Effect


@handler("work.noop")
def noop(task):
    return None


@handler("work.effect")
def effect(task):
    time.sleep(task.data.get("sleep", 0))
    Effect.objects.using(task._state.db).create(key=str(task.pk), pid=os.getpid())
    return {"pid": os.getpid()}


@handler("work.atomic", atomic=True)
def atomic(task):
    Effect.objects.using(task._state.db).create(key=f"atomic-{task.pk}", pid=os.getpid())
    time.sleep(task.data.get("sleep", 0))


@handler("work.async")
async def coroutine(task):
    await asyncio.sleep(task.data.get("sleep", 0))
    return task.record and str(task.record)


@handler("work.die")
def die(task):
    os.kill(os.getpid(), signal.SIGKILL)


@handler("work.raise", backoff=0.05)
def broken(task):
    raise ValueError(task.data.get("text", "broken"))


@handler("work.decide")
def decide(task):
    decision = task.data["decision"]
    if decision == "retry" and task.attempts == 1:
        raise Retry("once more", after=0)
    if decision == "fail":
        raise Fail("refused")
    if decision == "cancel":
        raise Cancel("withdrawn")
    return decision


@handler("work.result")
def result(task):
    return eval(task.data["code"])


@handler("work.talk")
def talk(task):
    task.log("hello")
    logging.getLogger("shop").info("from logging")
    logging.getLogger("django.db.backends").info("not this")
    task.progress(1, 2)


@handler("work.journal")
def in_journal(task):
    note("start", task)
    time.sleep(task.data.get("sleep", 0))
    note("end", task)


@handler("work.journal_atomic", atomic=True)
def in_journal_atomic(task):
    note("start", task)
    Effect.objects.using(task._state.db).create(key=f"atomic-{task.pk}", pid=os.getpid())
    time.sleep(task.data.get("sleep", 0))
    note("end", task)


@handler("work.journal_async")
async def in_journal_async(task):
    note("start", task)
    await asyncio.sleep(task.data.get("sleep", 0))
    note("end", task)


@handler("work.gate")
def at_gate(task):
    """Holds until the test opens the task's gate."""
    note("start", task)
    wait_at_gate(task)
    note("end", task)
    return {"pid": os.getpid()}


@handler("work.gate_atomic", atomic=True)
def at_gate_atomic(task):
    Effect.objects.using(task._state.db).create(key=f"atomic-{task.pk}", pid=os.getpid())
    return at_gate(task)


@handler("work.record")
def with_record(task):
    """Needs its record, and says where it found it."""
    note("start", task)
    return {"record": str(task.record), "alias": task.record._state.db}


@handler("work.poison", max_attempts=1)
def poisoned(task):
    """Runs code of the test's, which returns, raises or logs something nasty."""
    names = {"task": task, "log": logging.getLogger("shop"), "Unprintable": Unprintable}
    exec(task.data["code"], names)
    return names.get("result")


class Unprintable(Exception):
    def __str__(self):
        raise ZeroDivisionError("no text")

    __repr__ = __str__
