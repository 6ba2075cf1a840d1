"""Every page on a million tasks: how many questions it asks, and how PostgreSQL answers them."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from benchmarks.big_tables.fill import fill, tidy
from tasks import handler
from tasks.dashboard.page import pages
from tasks.models import BulkAction, Incident, State, Task
from tests.services.host import Host
from tests.services.postgres import Postgres
from tests.tasks.admin_rows import LIST
from tests.workers.tools import explained

ROWS = 1_000_000
MOST_QUERIES = 25
#: So many rows a page may sort or count.
FEW = 100

SCANS = "reads the whole table"
#: Statements that ask nothing.
_QUIET = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "SELECT set_config")


_TASKS = re.compile(r"\btasks_task\b")


class Asked:
    """What was asked while a page was made, and the plans for what was asked of the tasks."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.plans: list[tuple[str, list[dict[str, Any]]]] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("EXPLAIN"):
            return execute(sql, params, many, context)
        if not sql.startswith(_QUIET):
            self.statements.append(sql)
        if _TASKS.search(sql) and sql.lstrip().startswith(("SELECT", "WITH")):
            self.plans.append((sql, explained(sql, params)))
        return execute(sql, params, many, context)


def page_of(name: str) -> list[str]:
    """Addresses of each page, with everything on them that costs something."""
    middle = Task.objects.order_by("-pk")[0].pk // 2
    failed = Task.objects.failed().order_by("-pk")[0]
    of_record = Task.objects.filter(content_type__isnull=False).order_by("-pk")[0]
    return {
        "changelist": [f"?q={query}" for query in SEARCHES] + [
            f"?before={middle}", f"?after={middle}", "?at=2020-01-01T00:00",
            f"?q=state:failed&before={middle}", f"?q=queue:crm&after={middle}",
            f"?q=state:due&before={middle}",
        ],
        "change": [f"{pk}/change/" for pk in _one_in_each_state()],
        "record": [f"record/orders/order/{of_record.object_id}/"],
        "search": [f"search/?q={text}" for text in (failed.pk, "Order 1042", "Order", "17", "x")],
        "overview": ["overview/", "overview/?span=day", "overview/?span=week", "overview/?wall=1"],
        "incidents": ["incidents/"],
        "incident": [f"incidents/{Incident.objects.order_by('-failures')[0].pk}/"],
        "activity": ["activity/", "activity/?who=ann", "activity/?queue=crm"],
        "bulk_new": [f"bulk/new/?action=retry&q={query}" for query in BULK],
        "bulk": [f"bulk/{_bulk().pk}/"],
        "edit_data": [f"{failed.pk}/data/"],
    }[name]  # fmt: skip


SEARCHES = (
    "", "state:waiting", "state:later", "state:due", "state:running", "state:retrying",
    "state:failed", "state:completed", "state:cancelled", "state:due queue:crm", "queue:crm",
    "queue:nowhere", "state:failed queue:crm", "state:failed queue:nowhere", "name:email.*",
    "name:email.order_confirmation", "name:no.such", "record:order/1042", "record:order/99999999",
    'error:"mailbox full"', "error:mailbox", "state:failed error:mailbox", "data.customer.id:17",
    "data.customer.id:17 state:failed", "data.customer.id:17 name:email.*", "data.note:never",
    "created:24h", "created:<7d", "created:>2020-01-01", "created:<2020-01-01",
    "created:2026-01-01..2026-01-02", "worker:web-3", "worker:web-3 state:running", "incident:12",
    "incident:12 queue:default", "id:12", "id:12,15,99999999", "Order 1042", "1042", "crm.sync",
    "customer17@example.com", "nothing like it",
)  # fmt: skip
BULK = ("state:failed", "state:failed queue:crm", "name:no.such", "incident:12", "created:24h")


def _one_in_each_state() -> list[int]:
    found = (Task.objects.filter(state=state).order_by("-pk").first() for state in State)
    return [task.pk for task in found if task]


def _bulk() -> BulkAction:
    return BulkAction.objects.get_or_create(action="retry", query="state:failed", who="root")[0]


@pytest.fixture
def client_on(make_host: Callable[..., Host]) -> Callable[..., Client]:
    def fill_and_sign_in(server: Postgres, rows: int, *, bad_day: bool = False) -> Client:
        make_host(server)
        handler("crm.push", search=["customer.id"])(lambda task: None)
        with connection.cursor() as cursor:
            fill(cursor, rows, bad_day=bad_day)
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        client.get(LIST)  # what is asked once by a process: content types, the session
        return client

    return fill_and_sign_in


def tidied() -> None:
    with connection.cursor() as cursor:
        tidy(cursor)


@pytest.mark.timeout(600)
def test_no_page_scans_sorts_or_counts_a_million_tasks(
    client_on: Callable[..., Client], postgres_server: Postgres, settings: Any
) -> None:
    client = client_on(postgres_server, ROWS)
    tidied()
    wrong = all_complaints(client)
    assert not wrong, "\n".join(wrong)
    narrow = {"VISIBLE_TASKS": lambda user, tasks: tasks.filter(queue="crm")}
    settings.AFTERSAVE = {**settings.AFTERSAVE, **narrow}
    wrong = all_complaints(client, ("changelist", "overview", "incidents"))
    assert not wrong, "for one who sees a part: " + "\n".join(wrong)


@pytest.mark.timeout(600)
def test_nor_does_one_on_a_day_on_which_most_tasks_are_unfinished(
    client_on: Callable[..., Client], postgres16_server: Postgres
) -> None:
    client = client_on(postgres16_server, ROWS // 4, bad_day=True)
    never_analysed = [one for one in all_complaints(client) if SCANS in one]
    assert not never_analysed, "\n".join(never_analysed)
    tidied()
    wrong = all_complaints(client)
    assert not wrong, "\n".join(wrong)


def all_complaints(client: Client, names: Iterable[str] = ()) -> list[str]:
    found = [
        complaint
        for name in names or pages
        for address in page_of(name)
        for complaint in complaints(client, f"{LIST}{address}")
    ]
    return list(dict.fromkeys(found))


def complaints(client: Client, address: str) -> list[str]:
    asked = Asked()
    with connection.execute_wrapper(asked):
        response = client.get(address)
    found = [] if response.status_code in (200, 302) else [f"is {response.status_code}"]
    if len(asked.statements) > MOST_QUERIES:
        found.append(f"asks {len(asked.statements)} questions:\n" + "\n".join(asked.statements))
    for sql, nodes in asked.plans:
        found += [f"{what}: {sql[:3000]}" for what in dear(nodes)]
    return [f"{address} {what}" for what in found]


def dear(nodes: list[dict[str, Any]]) -> Iterator[str]:
    """What in a plan costs the more the larger the table is."""
    for node in nodes:
        kind = node["Node Type"]
        below = [one for one in walk(node) if one.get("Relation Name") == "tasks_task"]
        if kind.endswith("Seq Scan") and node.get("Relation Name") == "tasks_task":
            yield SCANS
        if kind in ("Sort", "Incremental Sort", "Aggregate", "Unique") and any(
            one["Plan Rows"] > FEW and not of_records(one) for one in below
        ):
            yield f"has a {kind} over tasks"
    yield from unbounded(nodes[0], limited=False)


def of_records(scan: dict[str, Any]) -> bool:
    """Whether it reads the tasks of the records that are shown, which a roll-up counts."""
    return "object_id" in str(scan.get("Index Cond", scan.get("Recheck Cond")))


def unbounded(node: dict[str, Any], *, limited: bool) -> Iterator[str]:
    """Ways along a whole index over all tasks with nothing that ends them."""
    index = node.get("Index Name") in ("tasks_task_pkey", "tasks_record", "tasks_live_key")
    if index and "Index Cond" not in node and not limited:
        yield f"goes along all of {node['Index Name']}"
    for child in node.get("Plans", ()):
        yield from unbounded(child, limited=limited or node["Node Type"] == "Limit")


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from walk(child)
