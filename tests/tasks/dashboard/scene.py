"""A shop in the middle of a day with an outage: the same data each time, for looking at the pages.

`paint()` fills an empty, migrated database with tasks in every state, several queues and workers,
a week of roll-ups and incidents; nothing of it is ever run.
"""

import math
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.utils import timezone

from orders.models import Order
from tasks.histogram import Histogram
from tasks.models import (
    Failure,
    Figure,
    Incident,
    IncidentHour,
    LogLine,
    Prerequisite,
    Queue,
    Task,
    TaskEvent,
    Worker,
)

NAMES = ("Ann Arbor", "Bo Lindqvist", "Chidi Okafor", "Dana Weiss", "Élise Moreau", "Farid Haddad")
SHARES = {
    ("default", "inventory.reserve"): 0.4,
    ("default", "email.order_confirmation"): 0.38,
    ("crm", "crm.sync"): 0.18,
    ("reviews", "review.ask"): 0.04,
}
TRACEBACK = """Traceback (most recent call last):
  File "/srv/shop/orders/handlers.py", line 61, in sync_with_crm
    answer = await asyncio.to_thread(crm.put_order, task.record, key=_key(task))
  File "/srv/shop/orders/crm.py", line 38, in put_order
    with urlopen(request, timeout=TIMEOUT) as response:
  File "/usr/lib/python3.11/urllib/request.py", line 1351, in do_open
    raise URLError(err)
urllib.error.URLError: <urlopen error [Errno 111] Connection refused>
"""


@dataclass
class Scene:
    """What was painted, by what it is for."""

    now: datetime
    orders: list[Order] = field(default_factory=list)
    tasks: dict[str, list[Task]] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)


def paint(now: datetime | None = None) -> Scene:
    """Fill the database as if it were ``now``."""
    scene = Scene(now or timezone.now())
    chance = random.Random(7)
    _orders(scene, chance)
    _queues_and_workers(scene)
    _tasks(scene, chance)
    _incidents(scene, chance)
    _figures(scene.now, chance)
    return scene


def _orders(scene: Scene, chance: random.Random) -> None:
    orders = [
        Order(
            number=str(1001 + index),
            customer=(name := chance.choice(NAMES)),
            email=f"{name.split()[0].lower().replace('é', 'e')}@example.com",
            total=chance.randrange(900, 25000) / 100,
        )
        for index in range(80)
    ]
    # In bulk: rules would make tasks of their own.
    scene.orders = Order.objects.bulk_create(orders)


def _queues_and_workers(scene: Scene) -> None:
    now = scene.now
    crm = {
        "paused_at": now - timedelta(minutes=18),
        "paused_by": "operations",
        "paused_reason": "The CRM is down, back at three.",
    }
    Queue.objects.bulk_create(
        [
            Queue(name=name, **(crm if name == "crm" else {}))
            for name in ("crm", "default", "reviews")
        ]
    )
    scene.workers = Worker.objects.bulk_create(
        [
            Worker(
                id=4711 + index,
                host=host,
                pid=pid,
                queues=queues,
                threads=8,
                coroutines=16 if not queues else 0,
                started_at=now - timedelta(hours=9),
                heartbeat_at=lost or now - timedelta(seconds=3 + index),
                lost_at=lost,
            )
            for index, (host, pid, queues, lost) in enumerate(
                [
                    ("worker-1", 4021, ["default", "crm", "reviews"], None),
                    ("worker-1", 4022, ["default", "crm", "reviews"], None),
                    ("worker-2", 318, ["default"], None),
                    ("worker-2", 317, ["default"], now - timedelta(minutes=41)),
                ]
            )
        ]
    )


def _tasks(scene: Scene, chance: random.Random) -> None:
    now, minute = scene.now, timedelta(minutes=1)
    rows: dict[str, list[Task]] = {}

    def add(kind: str, count: int, name: str, queue: str = "default", **columns: Any) -> None:
        for index in range(count):
            values = {key: v(index) if callable(v) else v for key, v in columns.items()}
            order = chance.choice(scene.orders)
            rows.setdefault(kind, []).append(_task(order, name, queue, now, **values))

    def ago(index: int) -> datetime:
        return now - (index * 3 + chance.random() * 3) * minute

    add("completed", 60, "inventory.reserve", state="completed", attempts=1, finished_at=ago)
    confirmed = {"state": "completed", "attempts": 1, "result": {"message_id": "<1@shop>"}}
    add("completed", 50, "email.order_confirmation", **confirmed, finished_at=ago)
    add(
        "due", 14, "inventory.reserve", due=True, priority=9, run_at=lambda i: now - i * minute / 30
    )
    add("due", 38, "crm.sync", "crm", due=True, run_at=lambda i: now - (18 - i / 3) * minute)
    add("due", 5, "export.invoice", "exports", due=True, run_at=lambda i: now - (52 - i) * minute)
    add("due", 3, "loyalty.add_points", due=True, run_at=lambda i: now - (9 - i) * minute)
    add("later", 70, "review.ask", "reviews", run_at=lambda i: now + timedelta(days=1, hours=i))
    add(
        "retrying",
        9,
        "crm.sync",
        "crm",
        attempts=lambda i: 1 + i % 4,
        max_attempts=8,
        run_at=lambda i: now + (2 + i * 4) * minute,
        reason="URLError: <urlopen error [Errno 111] Connection refused>",
    )
    add("waiting", 12, "email.order_confirmation", state="waiting")
    add(
        "running",
        7,
        "email.order_confirmation",
        state="running",
        attempts=1,
        worker_id=lambda i: 4711 + i % 2,
        started_at=lambda i: now - timedelta(seconds=2 + 3 * i * i),
    )
    add(
        "running",
        3,
        "inventory.reserve",
        state="running",
        attempts=1,
        worker_id=4713,
        started_at=lambda i: now - timedelta(seconds=1 + i),
    )
    add(
        "cancelled",
        8,
        "email.order_confirmation",
        state="cancelled",
        finished_at=ago,
        reason="the order was withdrawn",
    )
    created = Task.objects.bulk_create([task for kind in rows.values() for task in kind])
    scene.tasks = {kind: [created.pop(0) for _ in tasks] for kind, tasks in rows.items()}
    pairs = zip(scene.tasks["waiting"], scene.tasks["due"], strict=False)
    Prerequisite.objects.bulk_create([Prerequisite(task=a, prerequisite=b) for a, b in pairs])
    longest = scene.tasks["running"][-4]
    Task.objects.filter(pk=longest.pk).update(progress_value={"done": 40, "total": 100})
    LogLine.objects.create(task=longest, attempt=1, at=now, level=20, text="Rendering the mail.")


def _task(order: Order, name: str, queue: str, now: datetime, **columns: Any) -> Task:
    type_, action = name.split(".", 1)
    finished = columns.get("finished_at")
    created = min(finished or now, columns.get("run_at", now), now) - timedelta(minutes=4)
    values = {
        "run_at": created,
        "max_attempts": 5,
        "created_at": created,
        "started_at": finished - timedelta(seconds=0.4) if finished else None,
        "data": {"to": order.email} if type_ == "email" else {},
        "context": {"rule": "orders.rules.after_checkout"},
        **columns,
    }
    content_type = ContentType.objects.get_for_model(Order)
    return Task(
        type=type_,
        action=action,
        queue=queue,
        content_type=content_type,
        object_id=str(order.pk),
        **values,
    )


_INCIDENTS: tuple[dict[str, Any], ...] = (
    {
        "name": "crm.sync",
        "exception": "urllib.error.URLError",
        "message": "<urlopen error [Errno 111] Connection refused>",
        "failed": 84,
        "hours": {0: 61, 1: 20, 2: 3, 30: 2},
        "release": "2026.11.3",
    },
    {
        "name": "email.order_confirmation",
        "exception": "smtplib.SMTPRecipientsRefused",
        "message": "452 4.2.2 mailbox full",
        "failed": 21,
        "hours": {hour: 1 + hour % 3 for hour in range(0, 40, 2)},
        "release": "2026.10.1",
        "status": "taken",
        "taken_by": "ann",
        "note": "Asked the three customers for another address.",
        "link": "https://tickets.example.com/SHOP-811",
    },
    {
        "name": "inventory.reserve",
        "exception": "tasks.handlers.Fail",
        "message": "Blue teapot is sold out: 2 wanted.",
        "failed": 7,
        "hours": {3: 2, 9: 4, 20: 1},
        "release": "2026.11.3",
        "reopened": True,
    },
    {
        "name": "review.ask",
        "exception": "builtins.KeyError",
        "message": "'first_name'",
        "failed": 4,
        "hours": {26: 4},
        "status": "muted",
    },
    {
        "name": "crm.sync",
        "exception": "orders.crm.Refused",
        "message": "422 the customer has no country",
        "failed": 0,
        "hours": {44: 12},
        "status": "resolved",
    },
)


def _incidents(scene: Scene, chance: random.Random) -> None:
    for number, known in enumerate(_INCIDENTS):
        scene.incidents.append(_incident(scene, chance, number, known))
    scene.tasks["failed"] = list(Task.objects.failed().order_by("-id"))


def _incident(scene: Scene, chance: random.Random, number: int, known: dict[str, Any]) -> Incident:
    now, fingerprint = scene.now, f"{number:032x}"
    failed = _failed_tasks(scene, chance, fingerprint, known)
    newest_hour = min(known["hours"])
    type_, action = known["name"].split(".", 1)
    seen = now - timedelta(hours=newest_hour, seconds=40)
    status = known.get("status", "open")
    incident = Incident.objects.create(
        fingerprint=fingerprint,
        type=type_,
        action=action,
        exception=known["exception"],
        message=known["message"],
        status=status,
        failures=sum(known["hours"].values()),
        newest_task_id=failed[-1].pk if failed else None,
        first_seen_at=now - timedelta(hours=max(known["hours"]), minutes=12),
        last_seen_at=seen,
        first_release=known.get("release", ""),
        reopened_at=now - timedelta(hours=4) if known.get("reopened") else None,
        reopened_release="2026.11.3" if known.get("reopened") else "",
        resolved_at=now - timedelta(hours=30) if status == "resolved" else None,
        taken_by=known.get("taken_by", ""),
        note=known.get("note", ""),
        link=known.get("link", ""),
        muted_until=now + timedelta(hours=3) if status == "muted" else None,
    )
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    IncidentHour.objects.bulk_create(
        [
            IncidentHour(incident=incident, hour=this_hour - timedelta(hours=ago), failures=count)
            for ago, count in known["hours"].items()
        ]
    )
    if status == "taken":
        TaskEvent.objects.create(
            incident=incident, at=now - timedelta(hours=1), who="ann", action="incident_take"
        )
    return incident


def _failed_tasks(
    scene: Scene, chance: random.Random, fingerprint: str, known: dict[str, Any]
) -> list[Task]:
    now, short = scene.now, known["exception"].rpartition(".")[2]
    given_up = short == "Fail"
    hours = [hour for hour, count in known["hours"].items() for _ in range(count)]
    moments = sorted(now - timedelta(hours=hour, minutes=chance.random() * 50) for hour in hours)
    queue = {"crm": "crm", "review": "reviews"}.get(known["name"].split(".")[0], "default")
    tasks = Task.objects.bulk_create(
        [
            _task(
                chance.choice(scene.orders),
                known["name"],
                queue,
                now,
                state="failed",
                attempts=1 if given_up else 5,
                finished_at=moment,
                fingerprint=fingerprint,
                reason=known["message"] if given_up else f"{short}: {known['message']}",
            )
            for moment in (moments[-known["failed"] :] if known["failed"] else [])
        ]
    )
    Failure.objects.bulk_create(
        [
            Failure(
                task=task,
                attempt=task.attempts,
                worker_id=4711,
                started_at=task.started_at,
                at=task.finished_at,
                exception=known["exception"],
                message=known["message"],
                traceback=TRACEBACK,
                fingerprint=fingerprint,
            )
            for task in tasks
        ]
    )
    return tasks


# Roll-ups


def _figures(now: datetime, chance: random.Random) -> None:
    rows: list[Figure] = []
    for span, back in (
        (60, timedelta(hours=3)),
        (600, timedelta(days=8)),
        (3600, timedelta(days=8)),
    ):
        start = int((now - back).timestamp()) // span * span
        while start < now.timestamp() // 60 * 60:
            moment = datetime.fromtimestamp(start, now.tzinfo)
            if span == 60 or start + span <= now.timestamp():
                rows += _span(now, moment, span, chance)
            start += span
    Figure.objects.bulk_create(rows, batch_size=500)


def _span(now: datetime, start: datetime, span: int, chance: random.Random) -> list[Figure]:
    ago = (now - start).total_seconds() / 60
    if 23 <= ago < 29 and span == 60:
        return []  # all workers were being deployed: nobody reported
    hour = 14.5 - ago / 60  # whenever it is painted: an afternoon
    daytime = 0.25 + 0.75 * max(0.0, math.sin((hour - 5) / 24 * 2 * math.pi))
    busy = span / 60 * 90 * daytime * (0.85 + 0.3 * chance.random())
    outage = ago < 75
    rows = [
        _figure(queue, name, start, span, round(busy * part), outage and queue == "crm", chance)
        for (queue, name), part in SHARES.items()
    ]
    queues = {row.queue for row in rows}
    return [
        *rows,
        *(_sum([row for row in rows if row.queue == queue], queue) for queue in sorted(queues)),
        _sum(rows, ""),
    ]


def _figure(
    queue: str,
    name: str,
    start: datetime,
    span: int,
    count: int,
    broken: bool,
    chance: random.Random,
) -> Figure:
    failing = round(count * (0.7 if broken else 0.004 + 0.01 * chance.random()))
    failed = -(-failing // 4) if broken else failing // 4
    wait, run = Histogram(), Histogram()
    for _ in range(min(count, 40)):
        wait.add(chance.lognormvariate(-2.5 if not broken else 2.0, 0.9))
        run.add(chance.lognormvariate(-1.5, 0.6))
    type_, action = name.split(".", 1)
    return Figure(
        start=start,
        span=span,
        process=4711 if span == 60 else 0,
        queue=queue,
        type=type_,
        action=action,
        completed=count - failing,
        failed=failed,
        retried=failing - failed,
        cancelled=1 if chance.random() < 0.05 else 0,
        wait=wait.stored(),
        run=run.stored(),
    )


def _sum(rows: list[Figure], queue: str) -> Figure:
    first, wait, run = rows[0], Histogram(), Histogram()
    for row in rows:
        wait.merge(row.wait)
        run.merge(row.run)
    return Figure(
        start=first.start,
        span=first.span,
        process=first.process,
        queue=queue,
        completed=sum(row.completed for row in rows),
        failed=sum(row.failed for row in rows),
        retried=sum(row.retried for row in rows),
        cancelled=sum(row.cancelled for row in rows),
        wait=wait.stored(),
        run=run.stored(),
    )
