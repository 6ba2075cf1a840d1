"""How pages stand in windows of every width, also beside the admin's open sidebar."""

from collections.abc import Iterator
from typing import Any

import pytest

from tasks import enqueue
from tasks.models import Figure, Task
from tests.browser.walk import open_folds, sign_in, wait_until_settled, width_beyond
from tests.services.host import Host

#: By how many pixels a table is wider than what it stands in.
BEYOND_ITS_FRAME = """() => {
  const right = (one) => one.getBoundingClientRect().right;
  const root = document.querySelector("#af-root");
  return Math.max(0, ...[...root.querySelectorAll("table")].map((one) => right(one) - right(root)));
}"""
#: Whether the example in the search box is cut, and how far below the rest of its line "?" stands.
BAR = """() => {
  const box = document.querySelector("#af-search");
  const style = getComputedStyle(box);
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = style.font;
  const room = box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const top = (one) => document.querySelector(one).getBoundingClientRect().top;
  return [pen.measureText(box.placeholder).width > room, top("[data-af-help]") - top("#af-freeze")];
}"""
#: Names of records that stand on more than one line.
BROKEN_RECORDS = """() => [...document.querySelectorAll('.af-row [data-label="Record"] a')]
  .filter((one) => one.getClientRects().length > 1).map((one) => one.textContent)"""
#: How wide the names of incidents may be, at least.
ROOM_OF_INCIDENTS = """() => Math.min(...[...document.querySelectorAll(".af-incident-what")]
  .map((one) => one.getBoundingClientRect().width))"""
ROOM_OF_TITLES = """() => Math.min(...[...document.querySelectorAll(".af-inline .af-cell-title")]
  .map((one) => one.getBoundingClientRect().width))"""
HEIGHTS_OF_CHARTS = """() => [...document.querySelectorAll(".af-chart")]
  .map((one) => Math.round(one.getBoundingClientRect().height))"""
GAP_BELOW_WHY = """() => {
  const why = document.querySelector("#af-task-head .af-why");
  const below = document.querySelector("#af-task-head > .af-buttons")
    || document.querySelector("#af-task-story");
  return below.getBoundingClientRect().top - why.getBoundingClientRect().bottom;
}"""
#: Figures of more than one line, wider than their tiles or beyond the window.
BROKEN_FIGURES = """() => [...document.querySelectorAll("#af-figures .af-figure > b")]
  .filter((one) => {
    const text = document.createRange();
    text.selectNodeContents(one);
    return text.getClientRects().length !== 1
      || text.getBoundingClientRect().right > one.parentElement.getBoundingClientRect().right
      || one.parentElement.getBoundingClientRect().right > window.innerWidth;
  })
  .map((one) => one.textContent)"""


@pytest.fixture
def web(page: Any, sqlite_host: Host, walk: dict[str, str]) -> str:
    """Where the host's pages are; ``page`` is signed in there."""
    address = sqlite_host.web()
    sign_in(page, address)
    return address


def widths(page: Any, *pixels: int) -> Iterator[int]:
    """Make the window so wide, one after the other."""
    for width in pixels:
        page.set_viewport_size({"width": width, "height": 860})
        yield width


def test_beside_the_open_sidebar_every_page_is_as_wide_as_its_window(
    page: Any, web: str, walk: dict[str, str]
) -> None:
    enqueue("work.noop", queue="q" * 9, delay=3600)  # Run now, the widest of a row's buttons
    for width in widths(page, 768, 900, 1024, 1100, 1240, 1280):
        for name, address in walk.items():
            page.goto(web + address)
            assert page.locator("#nav-sidebar").is_visible()
            assert width_beyond(page) <= 0, (name, width)
            assert page.evaluate(BEYOND_ITS_FRAME) <= 1, (name, width)
            open_folds(page)
            assert width_beyond(page) <= 0, (name, width, "open")
            assert page.evaluate(BEYOND_ITS_FRAME) <= 1, (name, width, "open")


def test_beside_the_open_sidebar_nothing_is_cut_or_broken(
    page: Any, web: str, walk: dict[str, str]
) -> None:
    for width in widths(page, 768, 1024, 1280, 1366):
        page.goto(web + walk["changelist"])
        assert page.locator("#nav-sidebar").is_visible()
        wait_until_settled(page)
        cut, below = page.evaluate(BAR)
        assert not cut, width
        assert abs(below) < 2, width
        assert page.evaluate(BROKEN_RECORDS) == [], width
        page.goto(web + walk["incidents"])
        assert page.evaluate(ROOM_OF_INCIDENTS) > 180, width


def test_tasks_on_the_records_own_page_are_readable_beside_the_open_sidebar(
    page: Any, web: str, walk: dict[str, str]
) -> None:
    task = Task.objects.failed().filter(content_type__model="order").latest("pk")
    for width in widths(page, 768, 1100, 1280):
        page.goto(f"{web}/admin/orders/order/{task.object_id}/change/")
        assert page.locator("#nav-sidebar").is_visible()
        assert page.evaluate(ROOM_OF_TITLES) > 150, width


def test_charts_beside_each_other_are_equally_high(
    page: Any, web: str, walk: dict[str, str]
) -> None:
    page.set_viewport_size({"width": 1366, "height": 860})
    page.goto(web + walk["overview"])
    wait_until_settled(page)
    assert page.locator(".u-legend").count() == 3
    assert len(set(page.evaluate(HEIGHTS_OF_CHARTS))) == 1


def test_what_the_page_of_a_task_says_stands_apart_from_its_buttons(
    page: Any, web: str, walk: dict[str, str]
) -> None:
    for state in ("waiting", "scheduled", "running"):
        page.goto(
            f"{web}/admin/tasks/task/{Task.objects.filter(state=state).latest('pk').pk}/change/"
        )
        assert page.evaluate(GAP_BELOW_WHY) >= 8, state


@pytest.mark.parametrize("query", ["", "?wall=1"])
def test_figures_of_any_size_stand_on_one_line_in_their_tiles(
    page: Any, web: str, walk: dict[str, str], query: str
) -> None:
    minutes = Figure.objects.filter(span=60, completed__gt=0)
    minutes.filter(start=minutes.latest("start").start).update(completed=2_000_000)
    for width in widths(page, 390, 768, 1024, 1366, 1920):
        page.goto(web + walk["overview"] + query)
        assert page.locator("#af-figures .af-completed > b").inner_text().count(",") == 2
        assert page.evaluate(BROKEN_FIGURES) == [], width
        assert width_beyond(page) <= 0, width
