"""Every page of the dashboard, for tests that look at all of them in a browser."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.urls import reverse

from tasks.dashboard.page import pages
from tasks.models import BulkAction, Incident, Task
from tests.tasks.dashboard import scene

# A theme may fade its colours in: what is read meanwhile is none of them.
COLOURS_HAVE_COME = """Promise.allSettled(
    document.getAnimations().filter((one) => one instanceof CSSTransition)
        .map((one) => one.finished))"""
STAFF = ("care", "a-long-enough-password")


def hire() -> None:
    """Give the host the superuser STAFF."""
    User.objects.create_superuser(STAFF[0], "care@example.com", STAFF[1])


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


def wait_until_settled(page: Any) -> None:
    """Until the page's scripts have run, it is live if it can be, and no colour fades in."""
    page.wait_for_selector("#af-root.af-scripted")
    if page.locator("#af-live").count():
        page.wait_for_selector("#af-root.af-live-on")
    page.evaluate(COLOURS_HAVE_COME)


def violated(page: Any, *rules: str) -> list[tuple[str, list[str]]]:
    """What axe finds inside our root element: whatever breaks these rules, or is serious."""
    # All that is in order would be sent along, which for a long list takes longer than to look.
    options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
    return [
        (one["id"], [node["html"][:200] for node in one["nodes"][:3]])
        for one in Axe().run(page, "#af-root", options).response["violations"]
        if rules or one["impact"] in ("serious", "critical")
    ]


def open_folds(page: Any) -> None:
    """Open all that can be unfolded; by hand one would cover another."""
    page.evaluate(
        "() => document.querySelectorAll('#af-root details').forEach((one) => { one.open = true })"
    )


def width_beyond(page: Any) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))
