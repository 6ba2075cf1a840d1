"""django-tasks-db: its own `db_worker` command; it has no bulk call, so rows are created."""

from __future__ import annotations

import django
from django.core.management import call_command

from benchmarks.peers import adapter


def install() -> None:
    call_command("migrate", verbosity=0)


def enqueue(count: int) -> None:
    from django_tasks_db.models import DBTaskResult

    from benchmarks.host.bench.django_tasks_db_jobs import noop

    sample = DBTaskResult.objects.get(id=noop.enqueue(**adapter.DATA).id)
    rows = [
        DBTaskResult(
            args_kwargs=sample.args_kwargs,
            task_path=sample.task_path,
            priority=sample.priority,
            queue_name=sample.queue_name,
            run_after=sample.run_after,
            backend_name=sample.backend_name,
        )
        for _ in range(count - 1)
    ]
    DBTaskResult.objects.bulk_create(rows, batch_size=1_000)


if __name__ == "__main__":
    django.setup()
    adapter.main(install=install, enqueue=enqueue)
