"""What the pages do for who reads them: times, keys, ticks, copies. All of it also goes without."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from orders.models import Order
from tasks import enqueue
from tasks.models import Task, TaskEvent
from tests.browser.walk import hire, sign_in
from tests.services.host import Host
from tests.services.waiting import wait_for
from tests.tasks.admin_rows import failed, in_state

LIST = "/admin/tasks/task/"
#: Counts what has been copied: a button that says so already says it once more.
COUNT_COPIES = """() => {
  const write = navigator.clipboard.writeText.bind(navigator.clipboard);
  window.copies = 0;
  navigator.clipboard.writeText = (text) => write(text).then(() => { window.copies += 1; });
}"""


@pytest.fixture
def web(sqlite_host: Host) -> str:
    hire()
    return sqlite_host.web()


def open_in(chromium: Any, web: str, **options: Any) -> Any:
    """A page on which STAFF is signed in, in a browser with these options."""
    page = chromium.new_context(**options).new_page()
    sign_in(page, web)
    return page


def page_of(task: Task) -> str:
    return f"{LIST}{task.pk}/change/"


def state_of(task: Task) -> str:
    task.refresh_from_db()
    return task.shown_state


def test_times_are_the_viewers_own_and_exact_on_hover(chromium: Any, web: str) -> None:
    task = failed("work.raise")
    moment = timezone.now().replace(year=2025, month=7, day=9, hour=22, minute=30, second=0)
    Task.objects.filter(pk=task.pk).update(created_at=moment)
    page = open_in(chromium, web, locale="en-GB", timezone_id="Asia/Tokyo")
    page.goto(web + page_of(task))
    created = page.locator("#af-root time[datetime^='2025-07-09T22:30']").first
    assert created.inner_text() == "10 Jul 2025, 07:30"
    assert "07:30:00 GMT+9" in (created.get_attribute("title") or "")
    page.context.close()


def test_a_time_to_jump_to_is_one_of_the_viewers_own(chromium: Any, web: str) -> None:
    early, late = failed("work.raise"), failed("work.raise")
    day = timezone.now().replace(hour=10, minute=0) - timedelta(days=2)
    for task, moment in ((early, day), (late, day + timedelta(hours=4))):
        Task.objects.filter(pk=task.pk).update(created_at=moment)
    page = open_in(chromium, web, locale="en-GB", timezone_id="Asia/Tokyo")
    page.goto(web + LIST)
    page.locator("#af-fold-jump > summary").click()
    assert "(GMT+9)" in page.locator("#af-fold-jump label").inner_text()
    # Between the two; by the clock of the server it would be after both.
    page.fill("#af-at", f"{day:%Y-%m-%d}T21:00")
    page.locator("#af-fold-jump button").click()
    page.wait_for_url("**before=*")
    assert page.locator(f"#af-task-{early.pk}").count() == 1
    assert page.locator(f"#af-task-{late.pk}").count() == 0
    page.context.close()


def test_without_scripts_times_name_their_zone(chromium: Any, web: str) -> None:
    task = failed("work.raise")
    page = open_in(chromium, web, java_script_enabled=False)
    page.goto(web + page_of(task))
    times = page.locator("#af-root time[data-af-age]").all_inner_texts()
    assert times
    assert all("UTC" in text for text in times), times
    page.context.close()


def test_ages_are_counted_on_by_the_servers_clock(chromium: Any, web: str) -> None:
    task = failed("work.raise")
    page = open_in(chromium, web, locale="en-GB")
    page.clock.install(time="2031-01-01T00:00:00Z")  # the viewer's clock is wrong
    page.route("**/live.js", lambda route: route.abort())  # an update tells the time anew
    page.goto(web + page_of(task))
    age = page.locator("#af-root time[data-af-age]").first
    assert "ago" in age.inner_text()
    assert "sec" in age.inner_text()
    page.clock.run_for(180_000)
    assert age.inner_text() == "3 min ago"
    page.clock.set_system_time("2030-12-31T20:00:00Z")  # and set back while the page is open
    page.clock.run_for(60_000)
    assert age.inner_text() == "4 min ago"
    page.context.close()


def test_ages_are_in_the_language_of_the_page(chromium: Any, sqlite_host: Host) -> None:
    hire()
    sqlite_host.env["DJANGO_SETTINGS_MODULE"] = "tests.hosts.german"
    web = sqlite_host.web()
    task = failed("work.raise")
    page = open_in(chromium, web, locale="en-GB")
    page.goto(web + page_of(task))
    assert page.locator("#af-root time[data-af-age]").first.inner_text().startswith("vor ")
    assert page.locator(".af-state").first.inner_text().split()[-1] == "fehlgeschlagen"
    page.context.close()


def test_keys_find_move_tick_retry_and_help(chromium: Any, web: str) -> None:
    tasks = [failed("work.raise") for _ in range(3)]
    page = open_in(chromium, web)
    page.goto(web + LIST)
    focused = "document.activeElement.closest('.af-row')?.id"

    page.keyboard.press("?")
    assert page.locator("#af-keys").is_visible()
    page.keyboard.press("j")  # not while the help is open
    page.keyboard.press("Escape")
    assert page.evaluate(focused) is None

    page.keyboard.press("/")
    page.keyboard.type("jkx?")
    assert page.locator("#af-search").input_value() == "jkx?"
    page.keyboard.press("Escape")

    page.keyboard.press("j")
    assert page.evaluate(focused) == f"af-task-{tasks[2].pk}"
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert page.evaluate(focused) == f"af-task-{tasks[1].pk}"
    page.keyboard.press("x")
    assert page.locator("input[name=ticked]:checked").count() == 1
    assert page.locator(f"#af-tick-{tasks[1].pk}").is_checked()

    with page.expect_navigation(wait_until="load"):
        page.keyboard.press("r")
    assert [state_of(task) for task in tasks] == ["failed", "due", "failed"]
    page.context.close()


PRESS = """(key) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { bubbles: true, cancelable: true, composed: true, ...key }))"""
FOREIGN_FIELD = """() => {
  const host = document.body.appendChild(document.createElement("div"));
  const field = document.createElement("input");
  host.attachShadow({ mode: "open" }).append(field);
  field.focus();
}"""


def test_keys_of_other_scripts_and_with_caps_lock_do_the_same(chromium: Any, web: str) -> None:
    tasks = [failed("work.raise") for _ in range(3)]
    page = open_in(chromium, web)
    page.goto(web + LIST)
    focused = "document.activeElement.closest('.af-row')?.id"
    for number, key in enumerate(("о", "J", "ξ")):
        page.evaluate(PRESS, {"key": key, "code": "KeyJ"})
        assert page.evaluate(focused) == f"af-task-{tasks[2 - number].pk}", key
    # Another Latin letter on that place, as in Turkish, is the letter it is.
    for key in ({"key": "ş", "code": "KeyK"}, {"key": "K", "code": "KeyK", "shiftKey": True}):
        page.evaluate(PRESS, key)
        assert page.evaluate(focused) == f"af-task-{tasks[0].pk}", key
    page.evaluate(FOREIGN_FIELD)
    page.keyboard.press("f")
    assert "af-frozen" not in page.locator("#af-root").get_attribute("class")
    page.context.close()


def test_r_held_down_presses_once(chromium: Any, web: str) -> None:
    task = failed("work.raise")
    page = open_in(chromium, web)
    page.goto(web + LIST)
    page.keyboard.press("j")
    for _ in range(5):
        page.keyboard.down("r")
    page.wait_for_selector(".af-messages")
    assert "was retried" in page.locator(".af-messages").inner_text()
    assert state_of(task) == "due"
    page.context.close()


def test_enter_opens_the_row_to_which_the_keys_have_moved(chromium: Any, web: str) -> None:
    tasks = [failed("work.raise") for _ in range(2)]
    page = open_in(chromium, web)
    page.goto(web + LIST)
    page.keyboard.press("j")
    page.keyboard.press("j")
    with page.expect_navigation(wait_until="load"):
        page.keyboard.press("Enter")
    assert page.url == web + page_of(tasks[0])
    page.context.close()


def test_r_presses_nothing_in_a_list_without_rows(chromium: Any, web: str) -> None:
    failed("work.raise")
    page = open_in(chromium, web)
    page.goto(f"{web}{LIST}?q=state:completed")
    posted: list[str] = []
    page.on("request", lambda sent: posted.append(sent.url) if sent.method == "POST" else None)
    page.keyboard.press("r")
    page.wait_for_timeout(500)
    assert posted == []
    page.context.close()


def test_f_freezes_the_page_and_lets_it_move_again(chromium: Any, web: str) -> None:
    enqueue("work.noop")
    page = open_in(chromium, web, locale="en-GB")
    page.goto(web + LIST)
    root = page.locator("#af-root")
    page.keyboard.press("f")
    wait_for(lambda: "af-frozen" in root.get_attribute("class"), timeout=5, what="a frozen page")
    assert re.fullmatch(r"Frozen at \d\d:\d\d:\d\d", page.locator("#af-live-text").inner_text())
    page.keyboard.press("f")
    wait_for(lambda: "af-frozen" not in root.get_attribute("class"), timeout=5, what="the thaw")
    page.context.close()


def test_a_box_ticks_all_rows_and_shift_a_range(chromium: Any, web: str) -> None:
    for _ in range(4):
        failed("work.raise")
    page = open_in(chromium, web)
    page.goto(web + LIST)
    ticks = page.locator("input[name=ticked]")
    page.locator("[data-af-tick-all]").check()
    assert page.locator("input[name=ticked]:checked").count() == 4
    page.locator("[data-af-tick-all]").uncheck()
    assert page.locator("input[name=ticked]:checked").count() == 0
    ticks.nth(0).click()
    ticks.nth(2).click(modifiers=["Shift"])
    assert [ticks.nth(number).is_checked() for number in range(4)] == [True, True, True, False]
    page.context.close()


def test_a_ticket_is_copied_as_text(chromium: Any, web: str) -> None:
    order = Order.objects.create(customer="Ann", email="ann@example.com")
    task = failed("work.raise", record=order, message="mailbox full")
    page = open_in(chromium, web, permissions=["clipboard-read", "clipboard-write"])
    for address in (page_of(task), f"{LIST}record/orders/order/{order.pk}/"):
        page.goto(web + address)
        page.evaluate(COUNT_COPIES)
        page.locator("[data-af-copy]").first.click()
        wait_for(lambda: page.evaluate("window.copies") == 1, what="the copy")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert str(order) in copied
        assert f"#{task.pk}" in copied
    page.context.close()


def test_a_copy_pressed_twice_has_its_own_name_again(chromium: Any, web: str) -> None:
    task = failed("work.raise")
    page = open_in(chromium, web, permissions=["clipboard-read", "clipboard-write"])
    page.clock.install()
    page.goto(web + page_of(task))
    page.clock.pause_at(timezone.now() + timedelta(hours=1))
    button = page.locator("[data-af-copy]").first
    label = button.inner_text()
    page.evaluate(COUNT_COPIES)
    for number in (1, 2):
        button.click()
        wait_for(lambda n=number: page.evaluate("window.copies") == n, what="the copy")
        assert button.inner_text() == "Copied"
        page.clock.run_for(1000)
    page.clock.run_for(5000)
    assert button.inner_text() == label
    page.context.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_enter_in_a_reason_presses_its_own_button_or_none(
    chromium: Any, web: str, scripts: bool
) -> None:
    task = in_state("due", "work.raise")
    page = open_in(chromium, web, java_script_enabled=scripts)
    page.goto(web + page_of(task))
    page.locator(f"#af-fold-cancel-{task.pk} > summary").click()
    reason = page.locator(f"input[name=reason-cancel-{task.pk}]")
    reason.fill("The customer withdrew.")
    if scripts:
        # Chromium may hang when it is closed on its way to the next page.
        with page.expect_navigation(wait_until="load"):
            reason.press("Enter")
        assert state_of(task) == "cancelled"
        assert TaskEvent.objects.get(task=task).reason == "The customer withdrew."
    else:
        reason.press("Enter")
        page.wait_for_timeout(500)
        assert state_of(task) == "due"
        assert not TaskEvent.objects.exists()
    page.context.close()
