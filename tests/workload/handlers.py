"""Handlers of the test suite: what they do is seen in Effect rows."""

import asyncio
import os
import signal
import time

from tasks import Cancel, Fail, Retry, handler
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
    import logging

    task.log("hello")
    logging.getLogger("shop").info("from logging")
    logging.getLogger("django.db.backends").info("not this")
    task.progress(1, 2)
