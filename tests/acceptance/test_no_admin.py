"""A host that has no admin: everything but the pages is there."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tasks import enqueue
from tasks.models import Incident, Task
from tests.acceptance.fleet import PATIENCE, Fleet, counts, until_done
from tests.services.host import Host
from tests.services.smtp import Mailbox
from tests.services.waiting import wait_for

#: A process of this host that tries to import one of these says so where it logs or fails.
ABSENT = ("django.contrib.admin", "tasks.admin", "tasks.dashboard", "Traceback")


@pytest.mark.timeout(240)
def test_without_the_admin_tasks_run_fail_and_alert_and_the_dashboard_is_never_imported(
    host: Host, smtp_server: Mailbox
) -> None:
    host.env["DJANGO_SETTINGS_MODULE"] = "tests.hosts.no_admin"
    host.env["EMAIL_URL"] = smtp_server.url
    host.configure(ALERT_TO=["ops@example.com"], BASE_URL="https://shop.example.com")
    host.manage("check", "--fail-level", "WARNING")
    host.manage("migrate", "--check")
    host.shell(
        "from tasks import enqueue\n"
        "enqueue('work.noop')\n"
        "enqueue('work.atomic')\n"
        "enqueue('work.raise', {'text': 'no shelf'}, max_attempts=1)\n"
    )
    fleet = Fleet(host)
    until_done()
    # A worker that ends does not wait for the mail server: it ends when it has told.
    [mail] = wait_for(
        lambda: smtp_server.sent_to("ops@example.com"), timeout=PATIENCE, what="the worker's mail"
    )
    assert fleet.terminate() == 0, fleet.output

    assert counts() == {"completed": 2, "failed": 1}
    [incident] = Incident.objects.all()
    assert (incident.name, incident.failures) == ("work.raise", 1)
    assert "work.raise fails" in str(mail.get_content())

    task = enqueue("work.noop")
    Task.objects.filter(pk=task.pk).update(run_at=timezone.now() - timedelta(hours=1))
    told = host.manage("aftersave_alerts").stdout
    assert "Queue default has no worker" in told
    mails = [str(mail.get_content()) for mail in smtp_server.sent_to("ops@example.com")]
    assert "Queue default has no worker" in mails[1]
    assert not [text for text in mails if "https://" in text]  # there is no page to look at
    assert not [word for word in ABSENT if word in fleet.output + told]
