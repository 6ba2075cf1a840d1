"""Every page of the dashboard, for tests that look at all of them in a browser."""

from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.urls import reverse

from tasks.dashboard.page import pages
from tasks.models import BulkAction, Incident, Task
from tests.services.host import Host
from tests.tasks.dashboard import scene

STAFF = ("care", "a-long-enough-password")


def hire(host: Host) -> None:
    """Give the host the superuser STAFF."""
    host.manage(
        "createsuperuser", "--noinput", f"--username={STAFF[0]}", "--email=care@example.com",
        DJANGO_SUPERUSER_PASSWORD=STAFF[1],
    )  # fmt: skip


def sign_in(page: Any, web: str, admin: str = "/admin/") -> None:
    page.goto(f"{web}{admin}login/?next={admin}tasks/task/")
    page.fill("input[name=username]", STAFF[0])
    page.fill("input[name=password]", STAFF[1])
    with page.expect_navigation(wait_until="load"):
        page.locator("input[name=password]").press("Enter")


def addresses(task: Task, incident: Incident, bulk: BulkAction) -> dict[str, str]:
    """Every page by name, about these. A new page must be added here, or the tests fail."""
    kind = ContentType.objects.db_manager(task._state.db).get(pk=task.content_type_id)
    record = {"app": kind.app_label, "model": kind.model, "key": task.object_id}
    about: dict[str, tuple[dict[str, Any], str]] = {
        "overview": ({}, ""),
        "changelist": ({}, ""),
        "change": ({"task_id": task.pk}, ""),
        "record": (record, ""),
        "search": ({}, f"?q={task.object_id}"),
        "incidents": ({}, ""),
        "incident": ({"incident_id": incident.pk}, ""),
        "activity": ({}, ""),
        "bulk": ({"bulk_id": bulk.pk}, ""),
        "bulk_new": ({}, "?action=retry&q=state:failed"),
        "edit_data": ({"task_id": task.pk}, ""),
    }
    found = {
        name: reverse(f"admin:tasks_task_{name}", kwargs=arguments or None) + query
        for name, (arguments, query) in about.items()
    }
    assert set(pages) == set(about), f"no address for {set(pages) - set(about)}"
    return found


def paint() -> dict[str, str]:
    """Fill the database with the scene; every page about it, by name."""
    painted = scene.paint()
    bulk = BulkAction.objects.create(
        action="retry",
        query="state:failed queue:crm",
        reason="The CRM is back.",
        who=STAFF[0],
        expected=411,
        looked_at=200,
        done=180,
        skipped={"running": 20},
    )
    return addresses(painted.tasks["failed"][0], painted.incidents[0], bulk)


def open_folds(page: Any) -> None:
    """Open all that can be unfolded; by hand one would cover another."""
    page.evaluate(
        "() => document.querySelectorAll('#af-root details').forEach((one) => { one.open = true })"
    )


def width_beyond(page: Any) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
