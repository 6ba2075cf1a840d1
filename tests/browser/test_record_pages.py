"""From the search box to a record, its story and its one button; a task watched while it runs."""

from pathlib import Path
from typing import Any

import pytest

from orders.models import Order
from tasks.models import State, Task, TaskEvent
from tests.browser.live_site import Site, until
from tests.services.host import Host
from tests.tasks.admin_rows import failed, in_state

SPEAKS = """
import os, time
for step in range(6):
    task.log(f"step {{step}}")
    task.progress(step + 1, 6)
    while step == 2 and not os.path.exists({seen!r}):
        time.sleep(0.05)
"""


@pytest.fixture
def site(sqlite_host: Host) -> Site:
    return Site(sqlite_host)


def test_care_finds_an_order_and_retries_all_that_failed(site: Site, page: Any) -> None:
    order = Order.objects.create(customer="Ann", email="ann@example.com")
    order.tasks.all().delete()
    tasks = [failed("work.noop", record=order, message="mailbox full") for _ in range(2)]
    in_state("completed", "work.noop", record=order)
    site.sign_in(page)
    site.open(page)
    page.keyboard.press("/")
    page.keyboard.type(f"order {order.number}")
    page.keyboard.press("Enter")
    page.wait_for_url("**/record/orders/order/*/")
    assert page.locator("#af-root h1").inner_text() == str(order)
    assert "1 of 3 done" in page.locator("#af-record-state").inner_text()
    assert page.locator("#af-record-story li").count() >= 4
    with page.expect_navigation(wait_until="load"):
        page.get_by_role("button", name="Retry all failed of this record", exact=True).click()
    assert "2 tasks were retried." in page.locator(".af-messages").inner_text()
    assert page.url.endswith(f"/record/orders/order/{order.pk}/")
    assert Task.objects.filter(pk__in=[task.pk for task in tasks]).due().count() == 2
    assert page.locator("#af-record-story strong", has_text="care").count() == 2
    site.worker()
    done = page.locator("#af-record-state")
    until(page, lambda: "3 of 3 done" in done.inner_text(), "the end of both", timeout=40)
    assert "everything has come to its end" in page.locator("#af-record-next").inner_text()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_reason_is_given_for_all_that_failed(site: Site, chromium: Any, scripts: bool) -> None:
    order = Order.objects.create(customer="Ann", email="ann@example.com")
    order.tasks.all().delete()
    tasks = [failed("work.noop", record=order) for _ in range(2)]
    page = chromium.new_context(java_script_enabled=scripts).new_page()
    site.sign_in(page)
    page.goto(f"{site.web}/admin/tasks/task/record/orders/order/{order.pk}/")
    page.locator("summary", has_text="Retry all failed of this record with a reason").click()
    page.get_by_label("Reason (optional)").first.fill("the mailbox was emptied")
    with page.expect_navigation(wait_until="load"):
        if scripts:
            page.keyboard.press("Enter")
        else:
            page.locator("#af-fold-retry_all-record .af-ask button").click()
    assert "2 tasks were retried." in page.locator(".af-messages").inner_text()
    told = TaskEvent.objects.filter(task__in=tasks).values_list("who", "reason")
    assert list(told) == [("care", "the mailbox was emptied")] * 2
    page.context.close()


def test_log_and_progress_come_live_and_leave_an_open_fold_open(
    site: Site, page: Any, short_path: Path
) -> None:
    seen_by_staff = short_path / "seen"
    task = failed("work.poison", message="first", traceback="Traceback: the first time")
    Task.objects.filter(pk=task.pk).update(data={"code": SPEAKS.format(seen=str(seen_by_staff))})
    task.refresh_from_db()
    task.retry(by="care")
    site.sign_in(page)
    site.open(page, f"{task.pk}/change/")
    page.locator("#af-task-story summary", has_text="Traceback").click()
    page.locator("#af-fold-ticket summary").click()
    page.evaluate("window.notReloaded = true")
    site.worker()
    log, progress = page.locator("#af-task-log"), page.locator("#af-task-progress")
    until(page, lambda: "step 2" in log.inner_text(), "a line", timeout=40)
    until(page, lambda: "3 of 6" in progress.inner_text(), "how far it is")
    seen_by_staff.touch()
    until(page, lambda: "completed" in page.locator("#af-task-state").inner_text(), "the end")
    until(page, lambda: "step 5" in log.inner_text(), "the last line")
    assert progress.inner_text().strip() == ""
    assert page.get_by_text("Traceback: the first time").first.is_visible()
    assert page.evaluate("window.notReloaded")
    task.refresh_from_db()
    assert task.state == State.COMPLETED
