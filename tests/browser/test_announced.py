"""What a page that changes tells those who do not see it."""

from itertools import pairwise
from typing import Any

from tasks import enqueue
from tests.browser.live_site import Site, until
from tests.services.host import Host
from tests.tasks.admin_rows import in_state
from tests.tasks.failing import fail, incident

#: Notes what is said, and when.
LISTEN = """() => {
  window.said = [];
  const place = document.getElementById("af-say");
  const note = () => window.said.push([performance.now(), place.textContent]);
  const all = { childList: true, characterData: true, subtree: true };
  new MutationObserver(note).observe(place, all);
}"""


def test_totals_that_changed_are_said_at_most_once_in_five_seconds(
    page: Any, sqlite_host: Host
) -> None:
    in_state("failed")
    site = Site(sqlite_host)
    site.sign_in(page)
    site.open(page, "overview/")
    page.evaluate(LISTEN)

    def said() -> list[tuple[float, str]]:
        return [(at, text) for at, text in page.evaluate("window.said")]

    in_state("failed")
    until(page, lambda: any("2 failed" in text for _at, text in said()), "the new total")
    for _ in range(4):
        in_state("failed")
        page.wait_for_timeout(1100)
    until(page, lambda: any("6 failed" in text for _at, text in said()), "the newest total")
    times = [at for at, _text in said()]
    assert all(later - at >= 4900 for at, later in pairwise(times)), said()


def test_a_page_of_which_no_total_changes_is_silent(page: Any, sqlite_host: Host) -> None:
    enqueue("shop.do", delay=3600)
    site = Site(sqlite_host)
    site.sign_in(page)
    site.open(page, "overview/")
    page.evaluate(LISTEN)
    enqueue("shop.do", delay=3600)
    later = page.locator("#af-figures .af-later b")
    until(page, lambda: later.inner_text() == "2", "the new figure")
    # What is to be said is said by a timer that began before this one.
    page.evaluate("new Promise((done) => setTimeout(done))")
    assert page.evaluate("window.said") == []


def test_a_copy_waits_its_turn_and_is_not_silenced_by_what_changes(
    page: Any, sqlite_host: Host
) -> None:
    fail("shop.do")
    site = Site(sqlite_host)
    site.sign_in(page)
    site.open(page, f"incidents/{incident().pk}/")
    page.evaluate(LISTEN)

    def said() -> list[tuple[float, str]]:
        return [(at, text) for at, text in page.evaluate("window.said")]

    fail("shop.do")
    until(page, lambda: any("2 failed" in text for _at, text in said()), "the new total")
    page.get_by_role("button", name="Copy for a ticket").click()
    # The button says so for two seconds; this stays.
    until(page, page.locator("[data-af-copy][data-af-label]").count, "the copy")
    fail("shop.do")
    until(page, lambda: any("3 failed" in text for _at, text in said()), "the newest total")
    assert any("Copied" in text for _at, text in said()), said()
    assert all(later[0] - at[0] >= 4900 for at, later in pairwise(said())), said()
