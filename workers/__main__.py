"""``python -m workers OPTIONS``: one runner process, started by the supervisor."""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import partial


def main(options: str, pipe: int, report: int) -> None:
    """Run with ``options`` (JSON); stop when ``pipe`` closes; write worker ids to ``report``."""
    # Settings ask for the command's name to know that no pages are served here.
    sys.argv = ["manage.py", "runworker"]
    os.set_inheritable(pipe, False)
    os.set_inheritable(report, False)
    import django

    django.setup()
    from django.db import connections

    from workers.runner import Options, Runner

    for database in connections.settings.values():
        # Each thread keeps its connection for good, so that a pool would run out of them.
        database.get("OPTIONS", {}).pop("pool", None)

    runner = Runner(Options(**json.loads(options)), pipe=pipe, announce=partial(_report, report))
    runner.run()
    logging.shutdown()
    sys.stdout.flush()
    # Handlers that did not stop within the grace must not hold up the end.
    os._exit(0)


def _report(to: int, worker_id: int) -> None:
    try:
        os.write(to, f"{worker_id}\n".encode())
    except BrokenPipeError:
        return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
