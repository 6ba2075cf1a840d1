import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from django.db.models import F
from django.db.utils import OperationalError
from django.utils import timezone

from tasks import alerts, signals
from tasks.models import Alert, Incident
from tests.services.smtp import Mailbox
from tests.services.waiting import wait_for
from tests.tasks.failing import fail, incident
from tests.workers.tools import end_other_sessions
from workers import housekeeping
from workers.housekeeping import Housekeeping

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def keeping() -> Iterator[Housekeeping]:
    made = Housekeeping("default")
    made._next_at = time.monotonic() + 600
    made.start()
    yield made
    made.stop()
    wait_for(lambda: not made._thread.is_alive(), what="its end")
    end_other_sessions()


def test_a_new_incident_is_told_of_at_once(
    keeping: Housekeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "URGENT", 0.05)
    told: list[str] = []

    def hear(*, cause: alerts.Cause, **kwargs: Any) -> None:
        told.append(cause.key)

    signals.alert_raised.connect(hear)
    fail()
    wait_for(lambda: told, what="the alert")
    assert told == [f"incident:{incident().pk}"]


def test_a_mail_that_was_refused_goes_out_a_minute_later_though_nothing_else_happens(
    keeping: Housekeeping, monkeypatch: pytest.MonkeyPatch, smtp_server: Mailbox, settings: Any
) -> None:
    monkeypatch.setattr(housekeeping, "URGENT", 0.05)
    monkeypatch.setattr(housekeeping, "BUSY", 0.2)
    monkeypatch.setattr(alerts, "TRY_AGAIN", timedelta(0))
    settings.AFTERSAVE = {"ALERT_TO": ["ops@example.com"], "BASE_URL": "https://shop.example.com"}
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", smtp_server.port
    smtp_server.refuse.add("ops@example.com")
    fail()
    soon = timezone.now() + timedelta(minutes=1)
    failed = Alert.objects.filter(at__gt=F("sent_at"), at__lt=soon)
    wait_for(failed.all, what="the first try")
    smtp_server.refuse.clear()
    wait_for(lambda: smtp_server.messages, what="the mail")
    # Else the server ends under whoever still waits for its answer.
    wait_for(Alert.objects.filter(at=F("sent_at")).exists, what="the note that it was sent")


def test_what_is_over_is_resolved_soon(keeping: Housekeeping) -> None:
    fail().complete()
    keeping.soon(0.01)
    wait_for(lambda: incident().status == Incident.Status.RESOLVED, what="the end of it")


def test_a_job_that_fails_keeps_the_others_from_nothing(
    keeping: Housekeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = threading.Event()

    def broken(using: str) -> None:
        raise RuntimeError("no sums today")

    monkeypatch.setattr(housekeeping.summing, "sum_up", broken)
    monkeypatch.setattr(housekeeping.alerts, "watch", lambda using: watched.set())
    keeping.soon(0.01)
    assert watched.wait(10)
    wait_for(lambda: keeping._next_at < time.monotonic() + housekeeping.BUSY + 1)


def test_a_connection_that_cannot_be_closed_does_not_end_it(
    keeping: Housekeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def break_it(using: str) -> None:
        connection = connections[using]
        seen.append(connection)
        if len(seen) == 1:
            close = connection.close

            def broken() -> None:
                connection.close = close
                close()
                raise OperationalError("the connection is lost")

            connection.close = broken

    monkeypatch.setattr(housekeeping.alerts, "watch", break_it)
    for number in (1, 2):
        keeping.soon(0.01)
        wait_for(lambda number=number: len(seen) == number, what="a round")
    assert keeping._thread.is_alive()


def test_a_mail_server_that_hangs_holds_up_nobody_who_stops(
    keeping: Housekeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, done = threading.Event(), threading.Event()

    def hang(using: str) -> None:
        hanging.set()
        done.wait(20)

    monkeypatch.setattr(housekeeping.alerts, "watch", hang)
    keeping.soon(0.01)
    assert hanging.wait(10)
    begin = time.monotonic()
    keeping.stop()
    assert time.monotonic() - begin < 10
    done.set()


def test_it_keeps_no_connection_while_it_rests(
    keeping: Housekeeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(housekeeping.alerts, "watch", lambda using: seen.append(connections[using]))
    keeping.soon(0.01)
    wait_for(lambda: seen and seen[0].connection is None, what="a closed connection")
