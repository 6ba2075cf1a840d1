"""A host that has no admin: everything but the pages is there."""

import pytest

from tasks.models import Incident
from tests.acceptance.fleet import PATIENCE, Fleet, counts
from tests.services.host import Host
from tests.services.smtp import Mailbox

#: A process of this host that tries to import one of these says so where it logs or fails.
ABSENT = ("django.contrib.admin", "tasks.admin", "tasks.dashboard", "Traceback")


@pytest.mark.timeout(120)
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
    fleet = Fleet(host, "--drain")
    assert fleet.end(timeout=PATIENCE) == 0, fleet.output

    assert counts() == {"completed": 2, "failed": 1}
    [incident] = Incident.objects.all()
    assert (incident.name, incident.failures) == ("work.raise", 1)
    told = fleet.output + host.manage("aftersave_alerts").stdout
    [mail] = smtp_server.sent_to("ops@example.com")
    assert "work.raise fails" in str(mail.get_content())
    assert "https://" not in str(mail.get_content())  # there is no page to look at
    assert not [word for word in ABSENT if word in told]
