"""Time every page of the example host, in this process: one JSON object of milliseconds by page."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import django

LIST = "/admin/tasks/task/"
#: Of these the small table has less than a page.
SHORT = ("list, retrying", "list, waiting")
#: Searched through up to 100,000 rows because nothing matches: the most a page may cost.
BOUNDED = ("list, nothing matches", "list, an error nobody made")


def addresses() -> dict[str, str]:
    """Pages by what stands on them."""
    from tasks.models import Incident, Task

    newest = Task.objects.order_by("-pk")[0].pk
    failed = Task.objects.failed().order_by("-pk")[0].pk
    incident = Incident.objects.order_by("-failures")[0].pk
    searches = {
        "list": "",
        "list, failed": "state:failed",
        "list, due": "state:due",
        "list, running": "state:running",
        "list, later": "state:later",
        "list, retrying": "state:retrying",
        "list, waiting": "state:waiting",
        "list, completed": "state:completed",
        "list, a queue": "queue:crm",
        "list, a name": "name:email.*",
        "list, failed in a queue": "state:failed queue:default",
        "list, of an order": "record:order/17",
        "list, of an incident": f"incident:{incident}",
        "list, a declared key": "data.customer.id:17",
        "list, a day long ago": "created:<7d",
        BOUNDED[0]: "name:no.such",
        BOUNDED[1]: 'error:"nobody made it"',
    }
    lists = {name: f"{LIST}?q={query}" for name, query in searches.items()}
    return lists | {
        "list, half way back": f"{LIST}?before={newest // 2}",
        "overview": f"{LIST}overview/",
        "overview, a week": f"{LIST}overview/?span=week",
        "record": f"{LIST}record/orders/order/17/",
        "task": f"{LIST}{failed}/change/",
        "incidents": f"{LIST}incidents/",
        "incident": f"{LIST}incidents/{incident}/",
        "activity": f"{LIST}activity/",
        "search, a number": f"{LIST}search/?q={failed}",
        "search, an order": f"{LIST}search/?q=Order 1017",
        "bulk action, preview": f"{LIST}bulk/new/?action=retry&q=state:failed",
    }


def main(rounds: int) -> None:
    django.setup()
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    from tasks import handler

    settings.ALLOWED_HOSTS = ["*"]
    handler("crm.push", search=["customer.id"])(lambda task: None)
    client = Client()
    client.force_login(
        User.objects.get_or_create(username="bench", is_superuser=True, is_staff=True)[0]
    )
    pages = addresses()
    for address in pages.values():
        _timed(client, address)
    found: dict[str, list[float]] = {name: [] for name in pages}
    for _turn in range(rounds):
        for name, address in pages.items():
            found[name].append(_timed(client, address))
    print(json.dumps(found))


def _timed(client: Any, address: str) -> float:
    started = time.perf_counter()
    response = client.get(address)
    took = (time.perf_counter() - started) * 1000
    if response.status_code not in (200, 302):
        raise SystemExit(f"{address} answered {response.status_code}")
    if b'role="alert"' in response.content:
        raise SystemExit(f"{address} is not understood")
    return took


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    main(int(sys.argv[1]))
