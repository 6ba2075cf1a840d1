"""A customer places an order, workers do what follows, staff mend what failed: in a browser."""

from typing import Any

import pytest

from tests.browser.walk import STAFF, hire
from tests.services.host import Host
from tests.services.smtp import Mailbox
from tests.services.waiting import wait_for

CUSTOMER = "ann@example.com"
# What the mail server says. Its number, 550, may also stand in a time to the microsecond.
REFUSAL = "no such mailbox"


@pytest.fixture
def shop(postgres_host: Host, smtp_server: Mailbox) -> str:
    """A running shop whose mail server does not know the customer yet; its address."""
    smtp_server.refuse.add(CUSTOMER)
    postgres_host.env["EMAIL_URL"] = smtp_server.url
    postgres_host.configure(BACKOFF_BASE=0.01, MAX_ATTEMPTS=2)
    hire()
    postgres_host.popen("runworker", "--processes", "1")
    return postgres_host.web()


def press(page: Any, what: Any) -> None:
    """Click, and wait for the page that answers."""
    with page.expect_navigation(wait_until="load"):
        what.click()


def place_order(page: Any, shop: str) -> None:
    page.goto(shop)
    page.locator("input[type=number]").first.fill("1")
    page.get_by_label("name", exact=False).first.fill("Ann")
    page.locator("input[type=email]").fill(CUSTOMER)
    press(page, page.get_by_role("button", name="Place order"))
    assert "/orders/" in page.url


def open_failed_task(page: Any, shop: str) -> None:
    page.goto(f"{shop}/admin/tasks/task/")
    page.fill("input[name=username]", STAFF[0])
    page.fill("input[name=password]", STAFF[1])
    press(page, page.locator("input[type=submit]"))

    def failed() -> bool:
        page.goto(f"{shop}/admin/tasks/task/?state=failed")
        return bool(page.get_by_role("link", name="Send the confirmation").count())

    wait_for(failed, timeout=60, every=0.3, what="the failed confirmation in the list")
    press(page, page.get_by_role("link", name="Send the confirmation").first)


def state(page: Any) -> str:
    page.reload()
    return str(page.locator(".af-state").first.inner_text()).strip()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_order_is_placed_and_staff_retry_what_failed(
    chromium: Any, shop: str, smtp_server: Mailbox, scripts: bool
) -> None:
    page = chromium.new_context(java_script_enabled=scripts).new_page()
    place_order(page, shop)
    customers_page = page.url
    assert "Your confirmation" in page.content()

    open_failed_task(page, shop)
    assert REFUSAL in page.content()
    assert "failed" in state(page)
    smtp_server.refuse.clear()
    press(page, page.get_by_role("button", name="Retry"))
    wait_for(lambda: "completed" in state(page), timeout=60, every=0.3, what="the retried task")
    assert len(smtp_server.sent_to(CUSTOMER)) == 1

    page.goto(customers_page)
    assert f"We have sent your confirmation to {CUSTOMER}." in page.content()
    assert REFUSAL not in page.content()
    assert "550" not in page.locator("#progress").inner_text()
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(chromium: Any, shop: str, scheme: str) -> None:
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, is_mobile=True
    )
    page = context.new_page()
    refused: list[str] = []
    page.on("pageerror", lambda error: refused.append(str(error)))
    place_order(page, shop)
    pages = [page.url]
    open_failed_task(page, shop)
    pages += [page.url, f"{shop}/admin/tasks/task/", f"{shop}/admin/orders/order/", shop]
    for address in pages:
        page.goto(address)
        widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths[0] <= widths[1], (address, widths)
    context.close()
    assert refused == []
