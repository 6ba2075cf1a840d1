import socket
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import set_script_prefix
from django.utils import timezone

from tasks import alerts, causes, enqueue, incidents, signals
from tasks.alerts import watch
from tasks.causes import Cause
from tasks.checks import check_alerts
from tasks.conf import Settings
from tasks.exceptions import InvalidSetting
from tasks.models import Alert, Incident, Queue, Task, Worker
from tests.services.smtp import Mailbox
from tests.tasks.failing import fail, incident
from tests.tasks.tools import threads
from tests.workers.tools import worker

pytestmark = pytest.mark.django_db
OPS = "ops@example.com"
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _configured(settings: Any) -> None:
    settings.AFTERSAVE = {"ALERT_TO": [OPS], "BASE_URL": "https://shop.example.com/"}


@pytest.fixture
def mailbox(smtp_server: Mailbox, settings: Any) -> Mailbox:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", smtp_server.port
    return smtp_server


@pytest.fixture
def raised() -> Iterator[list[str]]:
    keys: list[str] = []

    def hear(*, cause: Cause, **kwargs: Any) -> None:
        keys.append(cause.key)

    signals.alert_raised.connect(hear)
    yield keys
    signals.alert_raised.disconnect(hear)


def ago(**length: float) -> datetime:
    return timezone.now() - timedelta(**length)


def due(queue: str = "default", *, minutes: float) -> Task:
    task = enqueue("shop.do", queue=queue)
    Task.objects.filter(pk=task.pk).update(run_at=ago(minutes=minutes))
    return task


def an_hour_passes() -> None:
    """All that is remembered was an hour earlier."""
    moments = {
        Alert: ("at", "sent_at"),
        Incident: ("first_seen_at", "last_seen_at", "reopened_at"),
        Worker: ("lost_at",),
    }
    for model, columns in moments.items():
        for row in model._default_manager.all():
            for column in columns:
                moment = getattr(row, column)
                setattr(row, column, moment and moment - HOUR)
            row.save()


def texts(mailbox: Mailbox) -> list[str]:
    return [str(message.get_content()) for message in mailbox.sent_to(OPS)]


def keys(look: Callable[[str], list[Cause]]) -> list[str]:
    return [cause.key for cause in look("default")]


def test_a_new_incident_is_mailed_once_with_a_link_that_opens_its_page(
    mailbox: Mailbox, raised: list[str]
) -> None:
    fail("email.send", message="to bob@example.com password=hunter2")
    assert [cause.key for cause in watch("default")] == [f"incident:{incident().pk}"]
    assert watch("default") == []
    (text,) = texts(mailbox)
    assert "email.send fails" in text
    assert "MailboxFull" in text
    assert "bob" not in text
    assert "hunter2" not in text
    assert mailbox.messages[0]["Subject"] == "[Django] email.send fails"
    (link,) = [line for line in text.splitlines() if line.startswith("https://shop.example.com/")]
    client = Client()
    client.force_login(User.objects.create_superuser("ann"))
    assert client.get(link.removeprefix("https://shop.example.com")).status_code == 200
    assert raised == [f"incident:{incident().pk}"]


def test_a_reopened_incident_is_mailed_again_but_not_within_the_hour(
    mailbox: Mailbox, settings: Any
) -> None:
    settings.AFTERSAVE = {**settings.AFTERSAVE, "RELEASE": "2026.11"}
    fail()
    watch("default")
    incidents.resolve(incident(), by="ann")
    fail()
    assert watch("default") == []
    an_hour_passes()
    assert len(watch("default")) == 1
    assert "fails again" in texts(mailbox)[1]
    assert "2026.11" in texts(mailbox)[1]
    an_hour_passes()
    assert watch("default") == []


@pytest.mark.parametrize("decision", ["take", "mute", "resolve"])
def test_what_somebody_deals_with_alerts_nobody(decision: str) -> None:
    fail()
    more = {"until": timezone.now() + HOUR} if decision == "mute" else {}
    assert getattr(incidents, decision)(incident(), by="ann", **more)
    assert keys(causes.new_incidents) == []


def test_an_incident_of_last_week_is_no_news() -> None:
    fail()
    Incident.objects.update(first_seen_at=ago(days=2))
    assert keys(causes.new_incidents) == []


def test_a_late_queue_is_told_of_each_hour_as_long_as_it_lasts(mailbox: Mailbox) -> None:
    due(minutes=12)
    worker()
    assert [cause.key for cause in watch("default")] == ["overdue:default"]
    assert "12 minutes, the limit is 10 minutes" in texts(mailbox)[0]
    assert watch("default") == []
    an_hour_passes()
    assert len(watch("default")) == 1


@pytest.mark.parametrize(
    ("limit", "found"),
    [
        (None, []),
        (300.0, ["overdue:crm", "overdue:mail"]),
        (3600, []),
        ({"crm": 300.0}, ["overdue:crm"]),
        ({"crm": 3600.0, "*": 60.0}, ["overdue:mail"]),
        ({}, []),
    ],
    ids=str,
)
def test_each_queue_may_have_its_own_limit(limit: Any, found: list[str], settings: Any) -> None:
    settings.AFTERSAVE = {"ALERT_OLDEST_DUE": limit}
    worker()
    due("crm", minutes=12)
    due("mail", minutes=12)
    enqueue("shop.do", queue="fresh")
    assert keys(causes.standing_queues) == found


def test_a_paused_queue_alerts_nobody() -> None:
    due("crm", minutes=12)
    Queue.objects.create(name="crm", paused_at=timezone.now())
    assert keys(causes.standing_queues) == []


def test_a_queue_without_a_worker_is_told_of_after_a_minute() -> None:
    due("crm", minutes=2)
    due("mail", minutes=0.5)
    assert keys(causes.standing_queues) == ["unserved:crm"]
    worker(1, queues=["mail"])
    worker(2, queues=["crm"], beat=timedelta(minutes=5))
    worker(3, queues=["crm"], stopped_at=timezone.now())
    assert keys(causes.standing_queues) == ["unserved:crm"]
    assert "runworker --queues crm" in causes.standing_queues("default")[0].text


@pytest.mark.parametrize("queues", [[], ["mail", "crm"]])
def test_a_living_worker_that_serves_the_queue_is_enough(queues: list[str]) -> None:
    due("crm", minutes=2)
    worker(1, queues=queues)
    assert keys(causes.standing_queues) == []


def test_lost_workers_are_one_alert_for_their_host() -> None:
    worker(1, lost_at=ago(minutes=2))
    worker(2, lost_at=ago(minutes=1))
    worker(3, lost_at=ago(days=2))
    worker(4, stopped_at=ago(minutes=1))
    assert [cause.key for cause in watch("default")] == ["worker-lost:here"]
    an_hour_passes()
    assert watch("default") == []
    worker(5, lost_at=timezone.now())
    (cause,) = watch("default")
    assert "3 worker processes" in cause.text


def test_several_causes_are_one_mail(mailbox: Mailbox) -> None:
    fail("email.send")
    due("crm", minutes=12)
    assert len(watch("default")) == 3
    (message,) = mailbox.messages
    assert message["Subject"].endswith("email.send fails, and 2 more")
    assert texts(mailbox)[0].count("https://shop.example.com/admin/") == 3


def test_without_an_address_of_the_site_there_is_no_link_and_a_warning(settings: Any) -> None:
    settings.AFTERSAVE = {"ALERT_TO": [OPS]}
    fail()
    assert causes.new_incidents("default")[0].link == ""
    assert [found.id for found in check_alerts()] == ["aftersave.W008"]
    settings.AFTERSAVE = {"ALERT_TO": [OPS], "BASE_URL": "https://x.example"}
    assert check_alerts() == []
    settings.AFTERSAVE = {}
    assert check_alerts() == []
    settings.ADMINS = [("Ops", OPS)]
    assert len(check_alerts()) == 1


def test_the_command_in_an_alert_can_be_typed_whatever_the_queue_is_called() -> None:
    due("a b; $(x)", minutes=2)
    (cause,) = causes.standing_queues("default")
    assert cause.text.endswith("python manage.py runworker --queues 'a b; $(x)'")


def test_a_path_prefix_is_not_doubled(settings: Any) -> None:
    settings.AFTERSAVE = {"BASE_URL": "https://x.example/shop"}
    try:
        set_script_prefix("/shop/")
        assert causes.page_link("overview") == "https://x.example/shop/admin/tasks/task/overview/"
    finally:
        set_script_prefix("/")
    assert causes.page_link("overview") == "https://x.example/shop/admin/tasks/task/overview/"


def test_a_host_without_our_pages_gets_mails_without_links(settings: Any) -> None:
    assert causes.page_link("no_such_page") == ""


def test_admins_get_the_mails_unless_others_are_named(settings: Any, mailbox: Mailbox) -> None:
    settings.ADMINS = [("Root", "root@example.com")]
    settings.AFTERSAVE = {}
    fail()
    watch("default")
    assert len(mailbox.sent_to("root@example.com")) == 1


def test_without_anybody_to_mail_the_signal_is_sent_all_the_same(
    settings: Any, mailbox: Mailbox, raised: list[str]
) -> None:
    settings.AFTERSAVE = {"ALERT_TO": []}
    fail()
    watch("default")
    assert raised
    assert not mailbox.messages
    assert watch("default") == []


def test_a_server_that_refuses_gets_the_mail_a_minute_later_and_the_signal_is_not_repeated(
    mailbox: Mailbox, raised: list[str]
) -> None:
    fail()
    mailbox.refuse.add(OPS)
    assert len(watch("default")) == 1
    assert watch("default") == [], "not at once"
    mailbox.refuse.clear()
    Alert.objects.update(at=Alert.objects.get().at - alerts.TRY_AGAIN)
    assert len(watch("default")) == 1
    assert len(mailbox.messages) == 1
    assert len(raised) == 1
    assert watch("default") == []


def test_a_server_that_says_nothing_holds_nobody_up_for_long(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "MAIL_TIMEOUT", 0.3)
    settings.EMAIL_TIMEOUT = None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        fail()
        assert len(watch("default")) == 1
    alert = Alert.objects.get()
    assert alert.sent_at is not None
    assert alert.at > alert.sent_at, "the mail is still to be sent"


def test_who_died_while_sending_is_followed_by_another(mailbox: Mailbox) -> None:
    fail()
    Alert.objects.create(cause=f"incident:{incident().pk}", at=ago(minutes=1))
    assert watch("default") == []
    Alert.objects.update(at=ago(minutes=6))
    assert len(watch("default")) == 1
    assert len(mailbox.messages) == 1


def test_a_receiver_that_raises_keeps_no_mail_back(mailbox: Mailbox) -> None:
    def broken(**kwargs: Any) -> None:
        raise RuntimeError("no chat today")

    signals.alert_raised.connect(broken)
    try:
        fail()
        watch("default")
    finally:
        signals.alert_raised.disconnect(broken)
    assert len(mailbox.messages) == 1


def test_the_command_tells_what_it_told(
    mailbox: Mailbox, capsys: pytest.CaptureFixture[str]
) -> None:
    due("crm", minutes=12)
    call_command("aftersave_alerts")
    assert "Queue crm is late" in capsys.readouterr().out
    call_command("aftersave_alerts", database="default")
    assert capsys.readouterr().out == ""
    assert len(mailbox.messages) == 1


def test_the_command_names_the_databases_it_may_look_at() -> None:
    with pytest.raises(CommandError, match="nowhere.*default"):
        call_command("aftersave_alerts", "--database=nowhere")


def test_what_was_told_costs_no_statement_of_its_own(settings: Any) -> None:
    settings.AFTERSAVE = {"ALERT_TO": []}

    def statements() -> int:
        assert watch("default"), "the first look tells"
        with CaptureQueriesContext(connection) as captured:
            assert watch("default") == []
        return len(captured)

    fail("a.one", "first")
    few = statements()
    for number in range(5):
        fail("a.one", f"other {number}")
    assert statements() == few


def test_the_oldest_due_tasks_are_looked_for_once_each_time() -> None:
    due("crm", minutes=12)
    with CaptureQueriesContext(connection) as captured:
        watch("default")
    looked = [query["sql"] for query in captured if "tasks_task" in query["sql"]]
    assert len(looked) == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_processes_that_watch_at_once_one_sends(mailbox: Mailbox) -> None:
    fail("a.one", "a")
    due("crm", minutes=12)
    together = threading.Barrier(4)

    def watching() -> int:
        together.wait(10)
        return len(watch("default"))

    with threads(4) as run:
        told = [one.result(30) for one in [run(watching) for _ in range(4)]]
    assert sum(told) == 3
    assert sum(text.count("https://") for text in texts(mailbox)) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"ALERT_TO": "ops@example.com"},
        {"ALERT_TO": ["ops"]},
        {"ALERT_OLDEST_DUE": -1},
        {"ALERT_OLDEST_DUE": {"crm": -1}},
        {"ALERT_OLDEST_DUE": {"crm": "5"}},
        {"BASE_URL": "shop.example.com"},
        {"KEEP_FIGURES": timedelta(days=-1)},
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting, match=next(iter(wrong))):
        Settings(**wrong)


def test_a_mail_server_that_is_down_for_hours_silences_no_signal(
    mailbox: Mailbox, raised: list[str]
) -> None:
    due(minutes=12)
    worker()
    mailbox.refuse.add(OPS)
    for told in (1, 2):
        assert len(watch("default")) == 1
        assert watch("default") == []
        assert raised == ["overdue:default"] * told
        an_hour_passes()
    mailbox.refuse.clear()
    assert len(watch("default")) == 1
    assert len(mailbox.messages) == 1


def test_who_died_before_the_signal_was_sent_is_followed_by_another(raised: list[str]) -> None:
    fail()
    Alert.objects.create(cause=f"incident:{incident().pk}", at=ago(minutes=6))
    watch("default")
    assert raised == [f"incident:{incident().pk}"]


def test_what_happened_by_a_clock_that_is_ahead_is_told_of_once() -> None:
    fail()
    Incident.objects.update(first_seen_at=timezone.now() + timedelta(seconds=30))
    assert len(watch("default")) == 1
    an_hour_passes()
    assert watch("default") == []


def test_of_many_incidents_at_once_a_mail_names_some_and_counts_the_others(
    mailbox: Mailbox, raised: list[str]
) -> None:
    for number in range(alerts.MOST_NAMED + 5):
        fail("shop.do", f"print {number}")
    due("crm", minutes=12)
    assert len(watch("default")) == alerts.MOST_NAMED + 7
    assert len(raised) == alerts.MOST_NAMED + 7
    (text,) = texts(mailbox)
    assert text.count("shop.do fails") == alerts.MOST_NAMED
    assert "Queue crm is late" in text
    assert "5 more are not named here." in text
    assert watch("default") == []


def test_the_last_worker_is_missed_though_nobody_is_left_to_find_it_dead() -> None:
    worker(1, beat=timedelta(seconds=40))
    worker(2, beat=timedelta(days=2))
    worker(3, beat=timedelta(minutes=5), stopped_at=timezone.now())
    assert keys(causes.lost_workers) == [], "others may be about to find out"
    Worker.objects.filter(pk=1).update(heartbeat_at=ago(hours=3))
    (cause,) = watch("default")
    assert cause.key == "worker-lost:here"
    assert "1 worker process there is silent" in cause.text
    an_hour_passes()
    assert watch("default") == []
    Worker.objects.filter(pk=1).update(lost_at=timezone.now())
    assert keys(causes.lost_workers) == ["worker-lost:here"]
    assert watch("default") == [], "a worker that is started now finds it dead: it is known"


@pytest.mark.django_db(databases=["default", "other"])
def test_what_happens_in_a_database_that_no_page_shows_has_no_link(raised: list[str]) -> None:
    Incident.objects.using("other").create(fingerprint="f", type="shop", action="do")
    Incident.objects.create(fingerprint="f", type="other", action="thing")
    assert [cause.link for cause in watch("other")] == [""]
    assert [bool(cause.link) for cause in watch("default")] == [True]


@pytest.mark.django_db(databases=["default", "other"])
def test_the_command_in_an_alert_starts_a_worker_for_that_database() -> None:
    task = enqueue("shop.do", queue="crm", using="other")
    Task.objects.using("other").filter(pk=task.pk).update(run_at=ago(minutes=5))
    (cause,) = causes.standing_queues("other")
    assert cause.text.endswith("python manage.py runworker --queues crm --database other")
