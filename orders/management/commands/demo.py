import argparse
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from orders.demo.errors import DemoError
from orders.demo.launch import launch
from orders.demo.perform import perform


class Command(BaseCommand):
    help = (
        "Shows the whole thing on this machine: PostgreSQL, pages, workers and a stream of orders. "
        "With DATABASE_URL or REDIS_URL set it uses those."
    )
    # There is no database to check yet.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--check",
            action="store_true",
            help="place 20 orders, retry what failed, print a table, end: 0 when all went well",
        )
        parser.add_argument(
            "--port", type=int, default=8000, help="of the pages, or the next free one (8000)"
        )
        parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)

    def handle(self, *, check: bool, port: int, folder: Path | None, **options: Any) -> None:
        try:
            if folder:
                perform(folder, check=check, port=port)
            else:
                sys.exit(launch(check=check, port=port))
        except DemoError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            if not folder:
                print("The demo has ended.")
            sys.exit(130 if check else 0)
