"""Raise the alerts that are due, from cron or a timer: also when no worker and no page runs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from tasks import alerts


class Command(BaseCommand):
    help = "Looks once for what operations must hear of, and tells whoever was not told yet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--database",
            default="default",
            choices=tuple(connections),
            help="the alias whose tasks to look at",
        )

    def handle(self, *, database: str, **options: Any) -> None:
        for cause in alerts.watch(database):
            self.stdout.write(f"{cause.title}: {cause.text}")
