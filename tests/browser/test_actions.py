"""What staff do to tasks, as a browser without scripts does it: folds, forms and plain POSTs."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tasks.models import Queue, Task, TaskEvent
from tests.browser.walk import STAFF, hire, sign_in
from tests.services.host import Host
from tests.tasks.admin_rows import in_state

LIST = "/admin/tasks/task/"


@pytest.fixture
def page(chromium: Any, sqlite_host: Host) -> Iterator[Any]:
    """A page without scripts on which a superuser is signed in."""
    hire()
    context = chromium.new_context(java_script_enabled=False, base_url=sqlite_host.web())
    page = context.new_page()
    sign_in(page, "")
    yield page
    context.close()


def shown(task: Task) -> str:
    return Task.objects.get(pk=task.pk).shown_state


def said(page: Any) -> str:
    return str(page.locator(".af-messages").inner_text())


def press(page: Any, name: str, *, among: str = "#af-root") -> None:
    with page.expect_navigation(wait_until="load"):
        page.locator(among).get_by_role("button", name=name, exact=True).first.click()


def test_a_task_is_retried_withdrawn_and_marked_as_done_each_with_its_way_back(page: Any) -> None:
    task = in_state("failed")
    page.goto(f"{LIST}{task.pk}/change/")
    press(page, "Retry")
    assert "was retried" in said(page)
    assert shown(task) == "due"

    press(page, "Cancel", among=".af-messages")
    assert "was cancelled" in said(page)
    assert shown(task) == "cancelled"

    page.locator("summary", has_text="Mark as done").click()
    press(page, "Mark as done", among=f"#af-fold-complete-{task.pk}")
    assert "please give a reason" in said(page)
    page.locator("summary", has_text="Mark as done").click()
    page.fill(f"[name=reason-complete-{task.pk}]", "sent by hand")
    press(page, "Mark as done", among=f"#af-fold-complete-{task.pk}")
    assert shown(task) == "completed"

    press(page, "Run again", among=".af-messages")
    assert shown(task) == "due"
    assert list(TaskEvent.objects.filter(task=task).values_list("action", "who")) == [
        (action, STAFF[0]) for action in ("retry", "cancel", "complete", "run_again")
    ]


def test_data_is_typed_looked_at_and_saved_and_a_secret_stays_what_it_was(page: Any) -> None:
    task = in_state("failed", data={"to": "ann@example.com", "password": "hunter2"})
    page.goto(f"{LIST}{task.pk}/change/")
    with page.expect_navigation(wait_until="load"):
        page.get_by_role("link", name="Change data…").click()
    typed = page.input_value("#af-data")
    assert "hunter2" not in page.content()

    page.fill("#af-data", typed.replace('"ann', "ann"))
    press(page, "Show what would change")
    assert re.search(r"Line \d+, column \d+", page.locator("[role=alert]").inner_text())

    page.fill("#af-data", typed.replace("ann@", "bob@"))
    press(page, "Show what would change")
    changes = page.locator("section", has_text="What would change").inner_text()
    assert "ann@example.com" in changes
    assert "bob@example.com" in changes
    assert Task.objects.get(pk=task.pk).data["to"] == "ann@example.com"

    page.fill("#af-reason", "she moved")
    press(page, "Save and retry")
    assert Task.objects.get(pk=task.pk).data == {"to": "bob@example.com", "password": "hunter2"}
    assert shown(task) == "due"
    press(page, "Restore the old data", among=".af-messages")
    assert Task.objects.get(pk=task.pk).data["to"] == "ann@example.com"


def test_ticked_rows_are_cancelled_together_with_one_reason(page: Any) -> None:
    tasks = [in_state("due") for _ in range(3)]
    page.goto(LIST)
    for task in tasks[:2]:
        page.check(f"#af-tick-{task.pk}")
    page.locator("#af-fold-cancel-selected > summary").click()
    page.fill("[name=reason-cancel-selected]", "ordered twice")
    press(page, "Cancel", among="#af-fold-cancel-selected")
    assert "2 cancelled" in said(page)
    assert [shown(task) for task in tasks] == ["cancelled", "cancelled", "due"]


def test_a_queue_is_paused_with_a_reason_and_resumed_beside_the_task_it_holds(page: Any) -> None:
    task = in_state("due", queue="crm")
    Queue.objects.create(name="crm")
    page.goto(f"{LIST}overview/")
    page.locator("#af-fold-pause-crm > summary").click()
    page.fill("[name=reason-pause-crm]", "CRM is down")
    press(page, "Pause", among="#af-fold-pause-crm")
    assert Queue.objects.get(name="crm").paused_by == STAFF[0]
    page.goto(f"{LIST}{task.pk}/change/")
    assert f"The queue crm was paused by {STAFF[0]} at" in page.locator(".af-why").inner_text()
    press(page, "Resume", among=".af-why")
    assert Queue.objects.get(name="crm").paused_at is None
