"""``manage.py runworker``: runs tasks; with channel names it is Channels' own command."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.utils import Error as DatabaseError

from tasks.models import Task
from workers.runner import Options
from workers.supervisor import FileChanges, Supervisor


class Command(BaseCommand):
    help = "Runs tasks in worker processes. With channel names: runs Channels' worker for them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("channels", nargs="*", help="Channels' channel names, to consume them.")
        parser.add_argument("--layer", default="default", help="Channels' layer alias.")
        parser.add_argument("--processes", type=int, default=1, help="Worker processes (1).")
        parser.add_argument("--threads", type=int, default=4, help="Sync handlers at once (4).")
        parser.add_argument(
            "--coroutines", type=int, default=100, help="Async handlers at once (100)."
        )
        parser.add_argument("--queues", default="", help="Only these, comma separated (all).")
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="Alias of the tasks.")
        parser.add_argument("--drain", action="store_true", help="Exit when nothing is due.")
        parser.add_argument("--autoreload", action="store_true", help="Restart on code changes.")
        parser.add_argument(
            "--grace", type=float, help="Seconds that running tasks may take after SIGTERM (25)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["channels"]:
            from channels.management.commands.runworker import Command as ChannelsCommand

            ChannelsCommand(stdout=self.stdout, stderr=self.stderr).handle(*args, **options)
            return
        refuse_impossible(options)
        worker = Options(
            using=options["database"],
            queues=[name.strip() for name in options["queues"].split(",") if name.strip()],
            threads=options["threads"],
            coroutines=options["coroutines"],
            drain=options["drain"],
            grace=options["grace"],
        )
        changed = {"changed": FileChanges()} if options["autoreload"] else {}
        refuse_unmigrated(options["database"])
        if options["verbosity"]:
            self.stdout.write(begins(worker))
            self.stdout.flush()  # before the first task has run, also into a file
        sys.exit(Supervisor(worker, processes=options["processes"], **changed).run())


def begins(worker: Options) -> str:
    """What a terminal shows of a worker in a project that does not log INFO, as new ones do not."""
    queues = f"the queues {', '.join(worker.queues)}" if worker.queues else "every queue"
    return f"Runs the tasks of {queues} on the database {worker.using!r}. Ctrl-C ends it."


def refuse_impossible(options: dict[str, Any]) -> None:
    """Raise CommandError for numbers and names that cannot be meant."""
    if options["database"] not in connections:
        known = ", ".join(connections)
        raise CommandError(f"--database {options['database']!r} is not one of {known}.")
    if options["processes"] < 1:
        raise CommandError("--processes must be at least 1.")
    if min(options["threads"], options["coroutines"]) < 0:
        raise CommandError("--threads and --coroutines cannot be negative.")
    if options["threads"] == options["coroutines"] == 0:
        raise CommandError("--threads 0 --coroutines 0 leaves nothing to run a handler.")
    if options["queues"] and not options["queues"].strip(", "):
        raise CommandError(f"--queues {options['queues']!r} names no queue.")
    if options["grace"] is not None and not options["grace"] >= 0:
        raise CommandError("--grace cannot be negative.")


def refuse_unmigrated(using: str) -> None:
    """Raise CommandError when the database answers and has no table of tasks.

    A database that does not answer is waited for by the workers.
    """
    # A connection for this question alone: the supervisor keeps none.
    connection = connections[using].copy()
    try:
        tables = connection.introspection.table_names()
    except DatabaseError:
        return
    finally:
        connection.close()
    if Task._meta.db_table not in tables:
        raise CommandError(
            f"Database {using!r} has no table {Task._meta.db_table}: run "
            f"'manage.py migrate --database {using}' first."
        )
