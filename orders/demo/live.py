"""The demo that people look at: orders come in until somebody ends it."""

import time
from datetime import datetime

from django.conf import settings
from django.core.management import call_command

from orders.demo.crm import FakeCrm
from orders.demo.errors import Unexpected
from orders.demo.folder import Folder
from orders.demo.people import Person, welcome
from orders.demo.shopper import Shopper
from orders.demo.stage import Stage
from orders.demo.upkeep import tidy
from tasks.models import Task

ORDER_PAUSE = 3.0
ORDERS_BEFORE_TIDYING = 20


def show(folder: Folder, *, port: int) -> None:
    """Run until a signal raises KeyboardInterrupt. Raises DemoError when a process dies."""
    call_command("migrate", verbosity=0)
    passwords = welcome(folder)
    # Slow customers are asked for again for a minute, so that there is always one being retried.
    stage = Stage(folder, FakeCrm(busy_times=3, retry_after=20), first_port=port)
    with stage.running():
        folder.note_address(stage.address)
        introduce(stage, passwords)
        stream(stage)


def stream(stage: Stage) -> None:
    """Place an order every few seconds, keep the data small, and say how it goes."""
    shopper = Shopper(stage.address, refused_every=12)
    turns = 0
    while True:
        stage.demand_alive()
        if turns % ORDERS_BEFORE_TIDYING == 0:
            tidy(stage.folder.mails)
            report(shopper.placed)
        _order(shopper)
        turns += 1
        time.sleep(ORDER_PAUSE)


def introduce(stage: Stage, passwords: dict[Person, str]) -> None:
    """Say where to look and as whom."""
    print(f"\nThe demo runs. Open {stage.tasks_address} and sign in as one of:\n")
    for person, password in passwords.items():
        print(f"  {person.login:<12}{password:<16}({person.group})")
    print(f"\nThe shop itself:  {stage.address}/")
    print(f"Mails it sends:   {settings.EMAIL_FILE_PATH or 'as EMAIL_URL says'}")
    print(f"Logs:             {stage.folder.logs}")
    print("Ctrl-C ends it. The next start goes on with the same data.\n")


def report(placed: int) -> None:
    """One line: what the tasks are doing now."""
    figures = {
        "due": Task.objects.due(),
        "running": Task.objects.running(),
        "retrying": Task.objects.retrying(),
        "failed": Task.objects.failed(),
        "later": Task.objects.later(),
    }
    states = ", ".join(f"{tasks.count()} {word}" for word, tasks in figures.items())
    print(f"{datetime.now():%H:%M:%S}  {placed} orders placed since the start; tasks: {states}")


def _order(shopper: Shopper) -> None:
    try:
        shopper.order()
    except (Unexpected, OSError) as error:
        print(f"{datetime.now():%H:%M:%S}  {error}")
