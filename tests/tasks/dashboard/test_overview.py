"""The overview: figures, queues, workers, charts, and what is in red."""

import json
import re
import time
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.http import QueryDict
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import enqueue, handler
from tasks.dashboard import fleet, probes
from tasks.dashboard.charts import SPANS, charts
from tasks.dashboard.fleet import MOST_WORKERS, serving, workers
from tasks.dashboard.lanes import MOST_QUEUES, lanes
from tasks.dashboard.page import pages
from tasks.dashboard.viewer import Viewer
from tasks.histogram import Histogram
from tasks.models import Figure, Incident, Queue, Task, Worker
from tasks.names import OWN
from tests.tasks.admin_rows import LIST, in_state, staff, text_of
from tests.tasks.dashboard.scene import paint
from tests.tasks.tools import start

pytestmark = pytest.mark.django_db

OVERVIEW = f"{LIST}overview/"


def part(text: str, element: str) -> str:
    """The HTML of one element."""
    start = re.search(rf'<(\w+) id="{element}"', text)
    assert start, f"no part {element}"
    depth = 0
    for tag in re.finditer(rf"<(/?){start[1]}\b", text[start.start() :]):
        depth += -1 if tag[1] else 1
        if not depth:
            return unescape(text[start.start() : start.start() + tag.end()])
    raise AssertionError(f"{element} has no end")


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def worker(number: int = 1, **columns: Any) -> Worker:
    known = {"host": "web-3", "pid": 100 + number, "threads": 4, "coroutines": 0}
    return Worker.objects.create(id=number, **known | columns)


def figure(ago: int, queue: str = "", *, wait: float = 0.2, **counts: int) -> Figure:
    """What was reported for the minute ``ago`` minutes before this one."""
    minute = timezone.now().replace(second=0, microsecond=0) - timedelta(minutes=ago)
    waits = Histogram()
    waits.add(wait)
    return Figure.objects.create(
        start=minute, process=1, queue=queue, wait=waits.stored(), **counts
    )


@pytest.fixture(autouse=True)
def _no_minute_ends() -> None:
    """Figures belong to a minute: none must end between writing and reading them."""
    second = timezone.now().second
    if second >= 57:
        time.sleep(60.1 - second)


def overview(client: Client, query: str = "") -> Any:
    response = client.get(f"{OVERVIEW}{query}")
    assert response.status_code == 200
    return response


def viewer() -> Viewer:
    from django.contrib.admin import site

    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    return Viewer(request, site)


class TasksElsewhere:
    """Keeps tasks in another database."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "tasks" else None

    db_for_write = db_for_read


def mails_only(user: Any, queryset: Any) -> Any:
    """VISIBLE_TASKS of these tests."""
    return queryset.filter(type="email")


# Figures


def test_each_state_has_its_figure_which_leads_to_the_list_of_it():
    for name in ("due", "later", "retrying", "running", "failed"):
        in_state(name)
    in_state("waiting")  # waits for one that is due
    shown = part(text_of(overview(staff("view_task"))), "af-figures")
    for name, count in {
        "due": 2,
        "later": 1,
        "retrying": 1,
        "waiting": 1,
        "running": 1,
        "failed": 1,
    }.items():
        tile = re.search(rf'href="[^"]*\?q=state%3A{name}">\s*<b>(\d+)</b>', shown)
        assert tile, name
        assert int(tile[1]) == count


def test_what_is_completed_comes_from_the_roll_ups_of_the_last_hour_and_day():
    in_state("completed")
    for queue in ("", "crm"):
        figure(5, queue, completed=40)
        figure(300, queue, completed=1200)
    shown = words(part(text_of(overview(staff("view_task"))), "af-figures"))
    assert "40 ✓ completed last hour 1,240 last day" in shown


def test_what_was_cancelled_counts_whoever_cancelled_it():
    prerequisite = enqueue("shop.do")
    enqueue("shop.do", after=[prerequisite])
    prerequisite.cancel(by="ann", reason="withdrawn")
    for hours in (2, 25):
        old = in_state("cancelled")
        Task.objects.filter(pk=old.pk).update(finished_at=timezone.now() - timedelta(hours=hours))
    shown = words(part(text_of(overview(staff("view_task"))), "af-figures"))
    assert "2 ⊘ cancelled last hour 3 last day" in shown


def test_who_sees_a_part_is_told_how_many_of_it_were_cancelled(settings):
    settings.AFTERSAVE = {"VISIBLE_TASKS": "tests.tasks.dashboard.test_overview.mails_only"}
    for name in ("email.confirm", "card.charge"):
        enqueue(name).cancel(by="ann", reason="withdrawn")
    shown = words(part(text_of(overview(staff("view_task"))), "af-figures"))
    assert "1 ⊘ cancelled last hour 1 last day" in shown
    assert "completed" not in shown


def test_the_tab_says_how_many_failed():
    in_state("failed")
    page = pages["overview"](viewer(), {}, QueryDict())
    assert page.note(page.context()) == "1 failed"
    Task.objects.failed().delete()
    assert page.note(page.context()) == ""


# Queues


def test_a_queue_shows_what_is_due_since_when_and_what_runs():
    enqueue("shop.do", queue="crm", priority=9)
    old = enqueue("shop.do", queue="crm", priority=-3)
    Task.objects.filter(pk=old.pk).update(run_at=timezone.now() - timedelta(minutes=42))
    start(enqueue("shop.do", queue="crm"))
    seen = viewer()
    (lane,) = lanes(seen, serving(workers()), fleet.running(seen))
    assert (lane.name, lane.due, lane.running, lane.oldest) == ("crm", 2, 1, old)
    assert lane.is_late


def test_a_queue_shows_how_much_it_finishes_a_minute_and_what_share_fails():
    enqueue("shop.do", queue="crm")
    for minute in range(1, 6):
        figure(minute, "crm", completed=9, failed=1, retried=2)
        figure(minute, completed=9, failed=1, retried=2)
    shown = words(part(text_of(overview(staff("view_task", "view_queue"))), "af-lanes"))
    assert re.search(r"crm .*\b10 ! 25 %", shown), shown


def test_a_paused_queue_says_by_whom_since_when_and_why_and_can_be_resumed():
    task = enqueue("shop.do", queue="crm")
    Task.objects.filter(pk=task.pk).update(run_at=timezone.now() - timedelta(hours=3))
    at = timezone.now() - timedelta(minutes=2)
    Queue.objects.create(
        name="crm", paused_at=at, paused_by="bo", paused_reason="password=hunter22 is wrong"
    )
    response = overview(staff("view_task", "view_queue", "pause_queue"))
    shown = part(text_of(response), "af-lanes")
    assert "paused by bo" in words(shown)
    assert "queue/crm/resume/" in shown
    assert "is late" not in text_of(response), "nobody expects a paused queue to be in time"
    assert "hunter22" not in shown
    assert "nobody serves it" not in shown


def test_without_the_right_to_pause_there_is_no_button():
    enqueue("shop.do", queue="crm")
    shown = part(text_of(overview(staff("view_task", "view_queue"))), "af-lanes")
    assert "crm" in shown
    assert "<button" not in shown


def test_without_the_right_to_see_queues_both_parts_say_so():
    enqueue("shop.do", queue="crm")
    worker(host="secret-host")
    text = text_of(overview(staff("view_task")))
    assert "Can view queue" in part(text, "af-lanes")
    assert "Can view queue" in part(text, "af-fleet")
    assert "crm" not in words(part(text, "af-lanes"))
    assert "secret-host" not in text
    assert "Nobody serves" not in text


# In red


def test_the_command_that_helps_can_be_typed_whatever_the_queue_is_called():
    enqueue("work.noop", queue="a b; $(x)")
    worker(queues=["default"])
    text = words(part(text_of(overview(staff("view_task", "view_queue"))), "af-alarms"))
    assert "python manage.py runworker --queues 'a b; $(x)'" in unescape(text)


def test_a_queue_that_no_live_worker_serves_is_in_red_with_the_command_that_helps():
    enqueue("work.noop", queue="crm")
    worker(queues=["default"])
    text = text_of(overview(staff("view_task", "view_queue")))
    assert "Nobody serves the queue crm." in words(part(text, "af-alarms"))
    assert "runworker --queues crm" in text


@pytest.mark.django_db(databases=["default", "other"])
def test_the_command_that_starts_a_worker_names_the_database_that_the_pages_show(settings):
    client = staff("view_task", "view_queue")
    nobody = text_of(overview(client))
    assert nobody.count("<code>python manage.py runworker</code>") == 2
    enqueue("work.noop", queue="crm")
    assert "<code>python manage.py runworker</code>" in part(text_of(overview(client)), "af-alarms")
    settings.DATABASE_ROUTERS = [TasksElsewhere()]
    there = "<code>python manage.py runworker --database other</code>"
    assert text_of(overview(client)).count(there) == 2
    enqueue("work.noop", queue="crm", using="other")
    assert there in part(text_of(overview(client)), "af-alarms")


def test_a_worker_of_every_queue_serves_any_and_a_silent_one_none():
    enqueue("work.noop", queue="crm")
    silent = worker()
    client = staff("view_task", "view_queue")
    assert "af-alert" not in text_of(overview(client))
    Worker.objects.filter(pk=silent.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    text = text_of(overview(client))
    assert "No worker is running." in part(text, "af-alarms")
    assert "silent" in part(text, "af-fleet")


def test_a_queue_is_served_also_by_a_worker_that_does_not_fit_on_the_page():
    Worker.objects.bulk_create(
        Worker(id=n, host="a", pid=n, threads=1, coroutines=0, queues=["mail"])
        for n in range(1, MOST_WORKERS + 1)
    )
    worker(MOST_WORKERS + 1, host="b", queues=["crm"])
    enqueue("work.noop", queue="crm")
    shown = overview(staff("view_task", "view_queue"))
    assert not shown.context["deserted"]
    assert len(shown.context["fleet"]) == MOST_WORKERS


def test_the_own_queue_is_served_by_every_worker():
    worker(queues=["mail"])
    task = enqueue("work.noop")
    Task.objects.filter(pk=task.pk).update(queue=OWN)
    seen = viewer()
    (lane,) = lanes(seen, serving(workers()), fleet.running(seen))
    assert (lane.name, lane.served) == (OWN, True)


def test_a_name_nobody_handles_is_in_red_unless_some_worker_performs_it():
    worker()
    for _ in range(30):
        enqueue("work.noop", priority=1)
    enqueue("elsewhere.do")
    client = staff("view_task", "view_queue")
    assert "Nobody handles elsewhere.do." in words(part(text_of(overview(client)), "af-alarms"))
    figure(3, "default", type="elsewhere", action="do", completed=1)
    assert "af-alert" not in text_of(overview(client))


def test_a_handler_that_is_known_here_is_not_in_red():
    worker()

    @handler("elsewhere.do")
    def do(task):
        return None

    enqueue("elsewhere.do")
    assert "af-alert" not in text_of(overview(staff("view_task", "view_queue")))


def test_the_limit_for_all_other_queues_is_in_red_as_it_is_in_alerts(settings):
    settings.AFTERSAVE = {"ALERT_OLDEST_DUE": {"crm": 600, "*": 60}}
    worker()
    for queue in ("crm", "mail"):
        task = enqueue("work.noop", queue=queue)
        Task.objects.filter(pk=task.pk).update(run_at=timezone.now() - timedelta(minutes=2))
    alarms = words(part(text_of(overview(staff("view_task", "view_queue"))), "af-alarms"))
    assert "The queue mail is late." in alarms
    assert "crm" not in alarms


def test_a_queue_whose_oldest_task_is_over_the_limit_is_in_red(settings):
    settings.AFTERSAVE = {"ALERT_OLDEST_DUE": {"crm": 60}}
    worker()
    for queue in ("crm", "mail"):
        task = enqueue("work.noop", queue=queue)
        Task.objects.filter(pk=task.pk).update(run_at=timezone.now() - timedelta(minutes=2))
    alarms = words(part(text_of(overview(staff("view_task", "view_queue"))), "af-alarms"))
    assert "The queue crm is late." in alarms
    assert "mail" not in alarms


# Workers


def test_a_worker_shows_what_its_slots_run_longest_first():
    worker(4711)
    tasks = [start(enqueue("work.noop")) for _ in range(10)]
    for age, task in enumerate(tasks):
        Task.objects.filter(pk=task.pk).update(
            started_at=timezone.now() - timedelta(minutes=age) if age else None
        )
    shown = part(text_of(overview(staff("view_task", "view_queue"))), "af-fleet")
    ids = [int(key) for key in re.findall(r"/(\d+)/change/", shown)]
    assert ids == [task.pk for task in tasks[:1:-1]][:8]
    assert "10 of 4 slots are busy" in words(shown)
    assert "and 2 more" in words(shown)
    assert "worker%3Aweb-3%3A4811" in shown


def test_dead_workers_are_marked_for_a_day_and_stopped_ones_are_gone():
    now = timezone.now()
    worker(1, host="alive")
    worker(2, host="stopped", stopped_at=now)
    worker(3, host="dead", lost_at=now - timedelta(hours=1))
    worker(4, host="buried", lost_at=now - timedelta(days=2))
    shown = words(part(text_of(overview(staff("view_task", "view_queue"))), "af-fleet"))
    assert "alive" in shown
    assert re.search(r"dead process 103 ✕ dead", shown)
    assert "stopped" not in shown
    assert "buried" not in shown


# Charts


def data_of(text: str, name: str) -> Any:
    found = re.search(rf'id="af-facts-{name}"[^>]*data-af-chart="([^"]*)"', text)
    assert found
    return json.loads(unescape(found[1]))


def test_a_minute_nobody_reported_is_a_gap_and_one_without_work_is_nought():
    figure(3, completed=12)
    figure(2)
    text = text_of(overview(staff("view_task")))
    chart = data_of(text, "throughput")
    (line,) = chart["series"]
    assert line["values"][-3:] == [12, 0, None]
    assert line["values"][:57] == [None] * 57
    assert chart["x"][-1] - chart["x"][0] == 59 * 60
    assert "No worker reported for 58 min of it." in text


def test_failures_differ_by_dash_and_waiting_is_told_as_quantiles():
    figure(2, failed=3, retried=5, wait=0.5)
    made = charts("default", SPANS["hour"])
    given_up, tried_again = made["failures"].lines
    assert (given_up.values[-2], tried_again.values[-2]) == (3, 5)
    assert given_up.dash != tried_again.dash
    half, most = made["wait"].lines
    assert half.values[-2] == pytest.approx(0.5, rel=0.1)
    assert most.dash != half.dash
    assert made["wait"].summary.startswith("Half of the tasks started within")


def test_the_charts_say_in_words_what_they_show_also_when_that_is_one_or_nothing():
    made = charts("default", SPANS["hour"])
    assert made["throughput"].summary.startswith("No task was completed in the last hour. ")
    assert made["wait"].summary.startswith("No task was started in the last hour. ")
    figure(2, completed=1, failed=1)
    made = charts("default", SPANS["hour"])
    assert made["throughput"].summary.startswith("1 task completed in the last hour: 1 a minute")
    assert made["failures"].summary.startswith("Given up in the last hour: 1. Tried again: 0. ")


def test_the_table_tells_the_same_as_the_chart():
    figure(2, completed=1234)
    text = text_of(overview(staff("view_task")))
    table = text[text.index('id="af-fold-chart-throughput"') :]
    cells = re.findall(r'<td class="af-number">([^<]*)</td>', table)[:60]
    assert cells[:3] == ["–", "1,234", "–"]


@pytest.mark.parametrize(("span", "points"), [("hour", 60), ("day", 144), ("week", 168)])
def test_the_charts_go_back_as_far_as_the_address_says(span, points):
    text = text_of(overview(staff("view_task"), f"?span={span}"))
    assert len(data_of(text, "wait")["x"]) in (points, points + 1)


def test_an_unknown_span_is_the_hour():
    assert len(data_of(text_of(overview(staff("view_task"), "?span=<b>")), "wait")["x"]) == 60


# A wall, a part, and whatever is carried


def test_a_wall_has_nothing_to_press():
    scene = paint()
    assert scene.incidents
    response = overview(
        staff("view_task", "view_queue", "pause_queue", "manage_incident"), "?wall=1"
    )
    text = text_of(response)
    body = text[text.index('class="af-overview"') : text.index('id="af-say"')]
    assert "af-wall" in text
    assert "<button" not in body
    assert "<details" not in body
    assert "paused" in body


def test_a_wall_tells_of_no_command():
    enqueue("work.noop", queue="crm")
    client = staff("view_task", "view_queue")
    assert "Start a worker:" in part(text_of(overview(client)), "af-alarms")
    wall = part(text_of(overview(client, "?wall=1")), "af-alarms")
    assert "and nobody takes them." in wall
    assert "Start a worker:" not in wall


def test_who_sees_a_part_is_told_no_figure_over_everything(settings):
    settings.AFTERSAVE = {"VISIBLE_TASKS": "tests.tasks.dashboard.test_overview.mails_only"}
    worker(4711)
    start(enqueue("email.confirm"))
    start(enqueue("card.charge"))
    enqueue("email.confirm")
    enqueue("card.charge")
    figure(2, completed=77)
    figure(2, "default", completed=77)
    text = text_of(overview(staff("view_task", "view_queue")))
    assert "You see a part of all tasks." in text
    assert "data-af-chart" not in text
    assert "77" not in words(part(text, "af-figures") + part(text, "af-lanes"))
    assert "1 ● due" in words(part(text, "af-figures"))
    assert "card.charge" not in text
    assert "1 of 4 slots are busy" in words(part(text, "af-fleet"))


def test_whatever_is_carried_is_text():
    nasty = '"><script>alert(1)</script>'
    enqueue("work.noop", queue=nasty)
    Queue.objects.create(
        name=nasty,
        paused_at=timezone.now(),
        paused_by=nasty,
        paused_reason=f"{nasty} token=abcdefgh1",
    )
    worker(host=nasty, queues=[nasty])
    Incident.objects.create(fingerprint="f", type="a", action="b", exception=nasty, message=nasty)
    start(enqueue("work.noop", queue=nasty), worker=1)
    text = text_of(overview(staff("view_task", "view_queue", "pause_queue")))
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    assert "abcdefgh1" not in text


def test_live_parts_are_what_the_page_shows_and_carry_no_token():
    paint()
    seen = viewer()
    page = pages["overview"](seen, {}, QueryDict())
    parts = page.render().parts
    assert set(parts) == set(page.parts)
    for element, html in parts.items():
        assert html.lstrip().startswith("<"), element
        assert f'id="{element}"' in html
        assert "csrf" not in html
    client = Client()
    client.force_login(seen.user)
    text = text_of(overview(client))
    assert all(f'id="{element}"' in text for element in parts)


def test_the_page_asks_the_same_number_of_questions_whatever_there_is():
    client = staff("view_task", "view_queue", "pause_queue", "manage_incident")
    paint()
    overview(client)  # content types
    with CaptureQueriesContext(connection) as few:
        overview(client)
    for number in range(60):
        enqueue("nobody.knows", queue=f"queue {number}", priority=number % 3)
        worker(100 + number)
        Incident.objects.create(fingerprint=f"x{number}", type="a", action="b")
    with CaptureQueriesContext(connection) as many:
        overview(client)
    statements = [[query["sql"][:90] for query in queries] for queries in (few, many)]
    assert len(many) == len(few) <= 25, statements


def test_of_many_queues_that_nobody_serves_five_are_named():
    worker(queues=["default"])
    for number in range(9):
        enqueue("work.noop", queue=f"queue-{number}")
    alarms = words(part(text_of(overview(staff("view_task", "view_queue"))), "af-alarms"))
    assert alarms.count("Nobody serves") == 5
    assert "9 queues in all are served by nobody." in alarms


def test_the_incidents_with_most_failed_tasks_stand_first():
    for number in range(8):
        incident = Incident.objects.create(
            fingerprint=f"f{number}", type="shop", action="do", message=f"message {number}."
        )
        for _ in range(number % 4):
            task = in_state("failed")
            Task.objects.filter(pk=task.pk).update(fingerprint=incident.fingerprint)
    shown = words(part(text_of(overview(staff("view_task"))), "af-top-incidents"))
    found = [int(number) % 4 for number in re.findall(r"message (\d)\.", shown)]
    assert found == [3, 3, 2, 2, 1]


def test_a_paused_queue_is_shown_as_paused_however_many_stand_before_it():
    Queue.objects.bulk_create(Queue(name=f"a{n:03}") for n in range(MOST_QUEUES))
    Queue.objects.create(name="zoo", paused_at=timezone.now(), paused_by="bo")
    enqueue("shop.do", queue="zoo")
    shown = overview(staff("view_task", "view_queue", "pause_queue"))
    assert "paused by bo" in words(part(text_of(shown), "af-lanes"))
    assert not shown.context["deserted"]
    assert f"At most {MOST_QUEUES} queues are shown" in text_of(shown)


def running(count: int, queue: str = "crm") -> None:
    now = timezone.now()
    Queue.objects.create(name=queue)
    Task.objects.bulk_create(
        Task(
            type="shop",
            action="do",
            queue=queue,
            state="running",
            attempts=1,
            max_attempts=5,
            run_at=now,
            started_at=now - timedelta(seconds=n),
            worker_id=4711,
        )
        for n in range(count)
    )


def test_all_that_runs_is_counted():
    worker(4711, coroutines=2000)
    running(1200)
    running(3, "mail")
    text = text_of(overview(staff("view_task", "view_queue")))
    assert "1,203 of 2,004 slots are busy" in words(part(text, "af-fleet"))
    assert re.search(r"crm .*\b1,200\b", words(part(text, "af-lanes")))
    longest = Task.objects.filter(queue="crm").order_by("-pk")[:8]
    ids = re.findall(r"/(\d+)/change/", part(text, "af-fleet"))
    assert [int(key) for key in ids] == [task.pk for task in longest]


def test_of_more_running_tasks_than_are_read_the_numbers_are_about(monkeypatch):
    monkeypatch.setattr(fleet, "MOST_RUNNING", 5)
    worker(4711)
    running(9)
    text = text_of(overview(staff("view_task", "view_queue")))
    assert "≈ 6 of 4 slots are busy" in words(part(text, "af-fleet"))
    assert "≈ 6" in words(part(text, "af-lanes"))


def test_workers_that_do_not_fit_on_the_page_are_told_of():
    for number in range(MOST_WORKERS + 2):
        worker(1 + number)
    shown = words(part(text_of(overview(staff("view_task", "view_queue"))), "af-fleet"))
    assert "2 more workers are not shown here." in shown


def test_a_queue_that_finished_nothing_while_workers_reported_says_nought():
    enqueue("shop.do", queue="crm")
    client = staff("view_task", "view_queue")

    def finished() -> str:
        cells = re.findall(
            r'data-label="A minute">([^<]*)<', part(text_of(overview(client)), "af-lanes")
        )
        return cells[0]

    assert finished() == "–"
    figure(2)
    assert finished() == "0"


def test_what_is_tried_again_is_counted_however_much_is_planned_for_later(monkeypatch):
    monkeypatch.setattr(probes, "MOST_COUNTED", 3)
    client = staff("view_task")

    def shown() -> str:
        return words(part(text_of(overview(client)), "af-figures"))

    in_state("retrying")
    for planned in range(3):
        assert f"{planned} ◷ later 1 ↻ retrying" in shown()
        enqueue("shop.do", delay=86400)
    assert "> 2 ◷ later 1 ↻ retrying" in shown()
    for _ in range(3):
        in_state("retrying")
    assert "– ◷ later > 3 ↻ retrying" in shown()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE tasks_task")
        assert "≈ 3 ◷ later ≈ 4 ↻ retrying" in shown()


def test_a_web_server_whose_clock_is_ahead_takes_no_worker_for_silent(monkeypatch):
    worker()
    enqueue("work.noop")
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(minutes=2))
    text = text_of(overview(staff("view_task", "view_queue")))
    assert "af-alert" not in text
    assert "silent" not in part(text, "af-fleet")
