"""The demo without an onlooker: twenty orders, what failed is retried by staff, a table."""

import time
from collections.abc import Callable

from django.core.management import call_command
from django.db.models import QuerySet
from django.urls import reverse

from orders.demo.crm import REFUSED_DOMAIN, FakeCrm
from orders.demo.errors import TookTooLong, Unexpected
from orders.demo.folder import Folder
from orders.demo.people import PEOPLE, welcome
from orders.demo.processes import tail, wait_until
from orders.demo.shopper import Shopper
from orders.demo.stage import Stage
from orders.demo.summary import table
from orders.demo.upkeep import fill_shelf, leave_unhandled
from orders.demo.visitor import Visitor
from orders.models import Order
from tasks.models import Task

ORDERS = 20
REFUSED_EVERY = 5
WORK_LIMIT = 60.0
LATER = "review.ask"


def check_everything(folder: Folder) -> None:
    """Raises DemoError with the first thing that is not as it must be."""
    began = time.monotonic()
    call_command("migrate", verbosity=0)
    passwords = {person.login: password for person, password in welcome(folder).items()}
    stage = Stage(folder, FakeCrm(busy_times=1, retry_after=1), first_port=None)
    with stage.running():
        print(f"Pages, workers and a CRM run at {stage.address}.")
        leave_unhandled()
        fill_shelf()
        orders = place_orders(stage)
        failed = wait_for_work(stage, orders)
        retry_as_staff(stage, failed, passwords)
        wait_for_retried(stage, failed)
        expect_good_ends(stage, orders)
        print(f"\n{table(orders, retried=failed)}\n")
    print(f"Everything is as it must be, after {time.monotonic() - began:.0f} s.")


def place_orders(stage: Stage) -> QuerySet[Order]:
    """Twenty orders through the storefront."""
    shopper = Shopper(stage.address, refused_every=REFUSED_EVERY)
    tokens = {shopper.order() for _ in range(ORDERS)}
    if len(tokens) != ORDERS:
        raise Unexpected(f"{ORDERS} orders made only {len(tokens)} order pages.")
    print(f"Placed {ORDERS} orders through the storefront.")
    return Order.objects.filter(token__in=tokens)


def wait_for_work(stage: Stage, orders: QuerySet[Order]) -> list[Task]:
    """Wait until all that can run now has ended; returns what failed, which the CRM decides."""
    _wait(stage, lambda: _unfinished(orders))
    failed = [task for order in orders for task in order.tasks.all().failed()]
    refused = orders.filter(email__endswith=REFUSED_DOMAIN).count()
    if [task.name for task in failed] != ["crm.sync"] * refused:
        raise Unexpected(f"{refused} tasks for the CRM should have failed, but: {_told(failed)}")
    print(f"All other tasks ended; {refused} failed because the CRM refused the order, as planned.")
    return failed


def retry_as_staff(stage: Stage, failed: list[Task], passwords: dict[str, str]) -> None:
    """Who may only look is turned away; customer care presses Retry on each failed task."""
    viewer, care, _ = [_staff(stage, person.login, passwords) for person in PEOPLE]
    _expect_refusal(viewer, failed[0])
    for task in failed:
        page = care.get(reverse("admin:tasks_task_change", args=[task.pk]))
        answer = care.send(page.form(_retry_path(task)))
        if answer.status != 200:
            raise Unexpected(f"Retrying {task} was answered with status {answer.status}.")
    print(f"Customer care retried {len(failed)} tasks over HTTP; who may only look could not.")


def wait_for_retried(stage: Stage, failed: list[Task]) -> None:
    retried = Task.objects.filter(pk__in=[task.pk for task in failed])
    _wait(stage, lambda: list(retried.exclude(pk__in=retried.completed())))


def expect_good_ends(stage: Stage, orders: QuerySet[Order]) -> None:
    """Nothing is left undone, and the customer reads so."""
    for order in orders:
        undone = order.tasks.all().exclude(pk__in=order.tasks.all().completed())
        if [task.name for task in undone] != [LATER]:
            raise Unexpected(f"{order} should only wait for its {LATER}: {_told(undone)}")
    page = Visitor(stage.address).get(orders[0].get_absolute_url())
    if "We have sent your confirmation" not in page.text:
        raise Unexpected(f"{page.address} does not tell of the confirmation.")


def _unfinished(orders: QuerySet[Order]) -> list[Task]:
    live = [task for order in orders for task in order.tasks.all().live()]
    return [task for task in live if task.name != LATER]


def _wait(stage: Stage, unfinished: Callable[[], list[Task]]) -> None:
    """Wait until nothing is unfinished. Raises Unexpected with what is, and what workers say."""
    try:
        wait_until(
            lambda: not unfinished(),
            what="the tasks to end",
            seconds=WORK_LIMIT,
            meanwhile=stage.demand_alive,
        )
    except TookTooLong as error:
        said = tail(stage.folder.log("workers"))
        told = f"Unfinished: {_told(unfinished())}. Failed: {_told(Task.objects.failed())}."
        raise Unexpected(f"{error} {told} The workers said last:\n{said}") from error


def _staff(stage: Stage, login: str, passwords: dict[str, str]) -> Visitor:
    visitor = Visitor(stage.address)
    visitor.sign_in(login, passwords[login], at=reverse("admin:login"))
    return visitor


def _expect_refusal(viewer: Visitor, task: Task) -> None:
    # The token comes from a form that everybody in the admin has.
    form = viewer.get(reverse("admin:index")).form(reverse("admin:logout"))
    form.action = viewer.site + _retry_path(task)
    answer = viewer.send(form)
    if answer.status != 403:
        raise Unexpected(f"Retry by who may only look: status {answer.status} instead of 403.")


def _retry_path(task: Task) -> str:
    return reverse("admin:tasks_task_retry", args=[task.pk])


def _told(tasks: "list[Task] | QuerySet[Task]") -> str:
    return ", ".join(f"{task} {task.state} {task.reason}".strip() for task in tasks) or "none"
