"""Real workers fail, die and stand: operations hear of it, and figures agree with the rows."""

import os
import signal
import socket
from datetime import timedelta

import pytest
from django.utils import timezone

from tasks import enqueue, enqueue_many, figures
from tasks.enqueueing import build
from tasks.figures import Counts
from tasks.models import Figure, Incident, IncidentHour, Task
from tests.acceptance.fleet import PATIENCE, Fleet, journal_of, until_done
from tests.services.host import Host
from tests.services.smtp import Mailbox
from tests.services.waiting import wait_for

OPS = "ops@example.com"


def mailing(host: Host, mailbox: Mailbox) -> None:
    host.configure(ALERT_TO=[OPS], BASE_URL="https://shop.example.com", BACKOFF_BASE=0.01)
    host.env["EMAIL_URL"] = mailbox.url


def texts(mailbox: Mailbox) -> list[str]:
    return [str(message.get_content()) for message in mailbox.sent_to(OPS)]


def told(mailbox: Mailbox, what: str) -> str:
    """The mail that says so, once it is there."""

    def found() -> list[str]:
        return [text for text in texts(mailbox) if what in text]

    return wait_for(found, timeout=PATIENCE, what=f"a mail about {what!r}")[0]


@pytest.mark.timeout(300)
def test_what_a_fleet_did_is_what_its_figures_say(host: Host) -> None:
    host.configure(BACKOFF_BASE=0.01)
    kinds = [
        ("work.noop", {}, {}),
        ("work.atomic", {}, {}),
        ("work.async", {}, {"queue": "other"}),
        ("work.raise", {}, {"max_attempts": 2}),
        ("work.decide", {"decision": "cancel"}, {}),
    ]
    enqueue_many([build(name, data, **more) for name, data, more in kinds for _ in range(40)])
    fleet = Fleet(host, "--processes", 2)
    until_done()
    assert fleet.terminate() == 0

    since = timezone.now() - timedelta(hours=1)
    assert figures.totals("default", since=since) == Counts(
        completed=120, failed=40, retried=40, cancelled=40
    )
    assert figures.by_queue("default", since=since)["other"] == Counts(completed=40)
    assert figures.by_name("default", since=since)["work.raise"] == Counts(failed=40, retried=40)
    points = figures.series("default", since=since, until=timezone.now(), step=3600)
    told = [point for point in points if point is not None]
    assert sum(point.wait.count for point in told) == sum(point.run.count for point in told) == 240
    # An hour that has just begun may have nothing but the workers' presence.
    assert [point.wait.p50 is None for point in told] == [not point.wait.count for point in told]


@pytest.mark.timeout(300)
def test_processes_that_fail_the_same_way_at_once_count_every_task(host: Host) -> None:
    kinds = ["work.raise", "work.decide", "work.poison"]
    data = {"decision": "fail", "code": "1 / 0"}
    enqueue_many([build(kinds[n % 3], data, max_attempts=1) for n in range(600)])
    Fleet(host, "--processes", 4, "--threads", 4)
    until_done(timeout=240)
    assert sorted(Incident.objects.values_list("failures", flat=True)) == [200, 200, 200]
    assert sum(IncidentHour.objects.values_list("failures", flat=True)) == 600
    for incident in Incident.objects.all():
        assert Task.objects.failed().filter(fingerprint=incident.fingerprint).count() == 200


@pytest.mark.timeout(300)
def test_a_new_incident_and_a_killed_worker_are_mailed_with_links(
    host: Host, smtp_server: Mailbox
) -> None:
    journal = journal_of(host)
    mailing(host, smtp_server)
    Fleet(host, "--processes", 2).ready(2)
    enqueue("work.raise", {"text": "to bob@example.com"}, max_attempts=1)
    text = told(smtp_server, "work.raise fails")
    assert "https://shop.example.com/admin/tasks/task/incidents/" in text
    assert "bob@example.com" not in text

    task = enqueue("work.gate")
    [pid] = wait_for(lambda: journal.started(task), timeout=PATIENCE)
    os.kill(pid, signal.SIGKILL)
    assert f"pid {pid}" in told(smtp_server, "Worker lost on")
    journal.open_gate(task)
    until_done()
    counts = [text.count("Worker lost") for text in texts(smtp_server)]
    assert sum(counts) == 1


@pytest.mark.timeout(300)
def test_a_mail_server_that_says_nothing_stops_no_task(host: Host) -> None:
    host.configure(ALERT_TO=[OPS])
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host.env["EMAIL_URL"] = f"smtp://127.0.0.1:{silent.getsockname()[1]}"
        fleet = Fleet(host).ready()
        enqueue("work.raise", max_attempts=1)
        caller, _ = silent.accept()
        tasks = [build("work.noop") for _ in range(200)]
        enqueue_many(tasks)
        until_done()
        assert fleet.terminate() == 0
        caller.close()


@pytest.mark.timeout(240)
def test_without_any_worker_the_command_tells_of_the_queue(
    host: Host, smtp_server: Mailbox
) -> None:
    mailing(host, smtp_server)
    task = enqueue("work.noop", queue="crm")
    Task.objects.filter(pk=task.pk).update(run_at=timezone.now() - timedelta(hours=1))
    shown = host.manage("aftersave_alerts").stdout
    assert "Queue crm has no worker" in shown
    assert "Queue crm is late" in shown
    assert host.manage("aftersave_alerts").stdout == ""
    assert len(texts(smtp_server)) == 1


@pytest.mark.timeout(240)
def test_idle_workers_say_that_they_are_there(host: Host) -> None:
    Fleet(host, "--processes", 2).ready(2)
    present = Figure.objects.filter(queue="", span=60)
    wait_for(lambda: present.values("process").distinct().count() == 2, timeout=PATIENCE)
    minute = present.latest("start").start
    [point] = figures.series("default", since=minute, until=minute + timedelta(minutes=1), step=60)
    assert point is not None
    assert point.counts == Counts()
