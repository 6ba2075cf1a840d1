"""aftersave, as a host project uses it: migrate, enqueue_many, runworker."""

from __future__ import annotations

import time

import django
from django.core.management import call_command

from benchmarks.peers import adapter


def install() -> None:
    call_command("migrate", verbosity=0)


def enqueue(count: int) -> None:
    from tasks import build, enqueue_many

    enqueue_many([build("bench.noop", adapter.DATA) for _ in range(count)])


def ping(count: int) -> None:
    adapter.measure_pings(count, _commit_one)


def _commit_one() -> int:
    from django.db import transaction

    from tasks import enqueue

    with transaction.atomic():
        enqueue("bench.ping", adapter.DATA)
        committing = time.monotonic_ns()
    return committing


if __name__ == "__main__":
    django.setup()
    adapter.main(install=install, enqueue=enqueue, ping=ping)
