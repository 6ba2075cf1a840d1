"""The second process of a demo: it has the database."""

import os
from pathlib import Path

from django.db import connections

from orders.demo.folder import Folder
from orders.demo.launch import end_on_signals
from orders.demo.postgres import Postgres


def perform(path: Path, *, check: bool, port: int) -> None:
    """Show the demo, or check it, with the data folder at ``path``. Raises DemoError."""
    # Imported here: the first process has no database that these could ask.
    from orders.demo.check import check_everything
    from orders.demo.live import show

    end_on_signals()
    folder = Folder(path)
    first_process = os.getppid()
    try:
        if check:
            check_everything(folder)
        else:
            show(folder, port=port)
    finally:
        if os.getppid() != first_process:
            connections.close_all()
            Postgres.of(folder).stop_abandoned()
