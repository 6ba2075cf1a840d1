"""Rules of the test suite: they concern tickets alone."""

import os
import signal

from tasks import on_create
from tests.workload.models import Ticket


@on_create(Ticket)
def after_ticket(ticket):
    if ticket.name == "refused":
        raise ValueError("no such ticket")
    if ticket.name == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    first = ticket.tasks.build("work.record", {"note": ticket.name})
    yield first
    yield ticket.tasks.build("work.record", {"note": ticket.name}, after=[first])
