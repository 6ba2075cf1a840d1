"""Every line the engine logs, in one place."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger("workers")


def started(worker: int, using: str, queues: str, threads: int, coroutines: int) -> None:
    logger.info(
        "Worker %s serves %s of database %r with %d threads and %d coroutines.",
        worker, queues, using, threads, coroutines,
    )  # fmt: skip


def stopped(worker: int, given_back: int) -> None:
    logger.info("Worker %s stopped; %d tasks given back.", worker, given_back)


def stopping(worker: int, running: int, grace: float) -> None:
    logger.info("Worker %s stops: %d tasks run, %g s grace.", worker, running, grace)


def lease_lost(task_id: int) -> None:
    logger.warning("Task %s was given to another worker; what this one did is not kept.", task_id)


def declared_dead(worker: int, held: int) -> None:
    logger.error(
        "Worker %s was declared dead while it lived (stopped or too busy for its heartbeat); "
        "it drops %d tasks and goes on under a new id.", worker, held,
    )  # fmt: skip


def worker_lost(worker: int, tasks: int) -> None:
    logger.error("Worker %s is dead; %d of its tasks go back to their queues.", worker, tasks)


def unknown_name(name: str) -> None:
    logger.error(
        "No handler for task name %r in this worker: such tasks stay for others. Is its "
        "handlers.py deployed here, and its app in INSTALLED_APPS?", name,
    )  # fmt: skip


def result_dropped(task: Any, complaint: str) -> None:
    logger.warning("Task %s (%s) completed without its result: %s.", task.pk, task.name, complaint)


def content_refused(task_id: int, error: BaseException) -> None:
    logger.warning(
        "The database refused what task %s wants to keep (%s); its outcome is written without it.",
        task_id, error,
    )  # fmt: skip


def line_refused(task_id: int, error: BaseException) -> None:
    logger.warning("The database refused a log line or progress of task %s: %s", task_id, error)


def backoff_broken(task: Any) -> None:
    logger.exception("backoff of task %s (%s) raised; BACKOFF_BASE is used.", task.pk, task.name)


def database_lost(error: BaseException, pause: float) -> None:
    logger.error("The database failed (%s). Trying again in %.1f s.", error, pause)


def database_back(outage: float) -> None:
    logger.info("The database answers again after %.1f s.", outage)


def figures_refused(error: BaseException) -> None:
    logger.warning("What this process did cannot be written to the roll-ups yet: %s", error)


def housekeeping_waits(job: str, error: BaseException) -> None:
    logger.warning("Housekeeping (%s) waits for the database: %s", job, error)


def housekeeping_failed(job: str) -> None:
    logger.exception("Housekeeping (%s) failed; it is tried again.", job)


def pruned(tasks: int) -> None:
    if tasks:
        logger.info("Pruned %d finished tasks.", tasks)


def runner_died(pid: int, code: int | None, pause: float) -> None:
    logger.error("Worker process %s ended with %s. Next start in %.1f s.", pid, code, pause)


def ears_lost(error: BaseException, pause: float) -> None:
    logger.warning(
        "The channel layer does not answer (%s); this worker polls. Trying again in %.1f s.",
        error, pause,
    )  # fmt: skip


def ears_useless(error: BaseException) -> None:
    logger.error("The channel layer cannot be used (%s); this worker polls.", error)
