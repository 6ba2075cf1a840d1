"""Every page for everybody: screen readers and weak eyes (axe), phones, no scripts."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tasks import enqueue
from tasks.models import Figure, Task, Worker
from tests.browser.walk import (
    hire,
    open_folds,
    paint,
    sign_in,
    violated,
    wait_until_settled,
    width_beyond,
)
from tests.services.host import Host

#: Thumbs: 44 CSS pixels. A tick is touched by its label; links in running text are as high as it.
SMALL_TARGETS = """() => [...document.querySelectorAll(
    "#af-root :is(button, summary, select, input, .af-tick, .af-button, .af-tabs a, .af-pages a,"
    + " .af-row td a, .af-row th a, h3 a, #af-task-head .af-line a, #af-task-facts dd a)"
  )]
  .filter((one) => !["hidden", "checkbox", "radio"].includes(one.type)
    && one.getClientRects().length && getComputedStyle(one).clipPath === "none")
  .map((one) => [one.getBoundingClientRect(), one])
  .filter(([box]) => box.height < 43.5 || box.width < 24)
  .map(([box, one]) => `${one.outerHTML.slice(0, 120)} ${box.width}x${box.height}`)"""

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
def walk(sqlite_host: Host) -> dict[str, str]:
    hire()
    return paint()


@pytest.mark.timeout(300)
def test_axe_finds_nothing_serious_in_light_or_dark(
    chromium: Any, sqlite_host: Host, walk: dict[str, str]
) -> None:
    web = sqlite_host.web()
    page = chromium.new_context().new_page()
    sign_in(page, web)
    for name, address in walk.items():
        page.goto(web + address)
        open_folds(page)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            wait_until_settled(page)
            assert violated(page) == [], (name, scheme)
    # Half a minute after they were painted the workers are silent, and their queues red.
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=5))
    page.goto(web + walk["overview"])
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        wait_until_settled(page)
        assert page.locator("#af-lanes tr.af-bad").count(), scheme
        assert violated(page) == [], ("silent workers", scheme)
    page.context.close()


def test_a_phone_shows_every_page_whole_with_targets_for_thumbs(
    chromium: Any, sqlite_host: Host, walk: dict[str, str]
) -> None:
    web = sqlite_host.web()
    viewport = {"width": 390, "height": 844}
    page = chromium.new_context(viewport=viewport, is_mobile=True, has_touch=True).new_page()
    sign_in(page, web)
    for name, address in walk.items():
        page.goto(web + address)
        wait_until_settled(page)
        assert width_beyond(page) <= 0, name
        assert page.evaluate(SMALL_TARGETS) == [], name
        open_folds(page)
        assert width_beyond(page) <= 0, name
        assert page.evaluate(SMALL_TARGETS) == [], name
    page.context.close()


def test_beside_the_open_sidebar_every_page_is_as_wide_as_its_window(
    chromium: Any, sqlite_host: Host, walk: dict[str, str]
) -> None:
    enqueue("work.noop", queue="q" * 9, delay=3600)  # Run now, the widest of a row's buttons
    web = sqlite_host.web()
    page = chromium.new_page()
    sign_in(page, web)
    for width in (768, 900, 1024, 1100, 1240):
        page.set_viewport_size({"width": width, "height": 860})
        for name, address in walk.items():
            page.goto(web + address)
            assert page.locator("#nav-sidebar").is_visible()
            assert width_beyond(page) <= 0, (name, width)
            assert page.evaluate(BEYOND_ITS_FRAME) <= 1, (name, width)
    page.close()


def test_beside_the_open_sidebar_nothing_is_cut_or_broken(
    chromium: Any, sqlite_host: Host, walk: dict[str, str]
) -> None:
    web = sqlite_host.web()
    page = chromium.new_page()
    sign_in(page, web)
    for width in (768, 1024, 1280, 1366):
        page.set_viewport_size({"width": width, "height": 860})
        page.goto(web + walk["changelist"])
        assert page.locator("#nav-sidebar").is_visible()
        wait_until_settled(page)
        cut, below = page.evaluate(BAR)
        assert not cut, width
        assert abs(below) < 2, width
        assert page.evaluate(BROKEN_RECORDS) == [], width
        page.goto(web + walk["incidents"])
        assert page.evaluate(ROOM_OF_INCIDENTS) > 180, width
    page.close()


def test_tasks_on_the_records_own_page_are_readable_beside_the_open_sidebar(
    chromium: Any, sqlite_host: Host, walk: dict[str, str]
) -> None:
    task = Task.objects.failed().filter(content_type__model="order").latest("pk")
    web = sqlite_host.web()
    page = chromium.new_page()
    sign_in(page, web)
    for width in (768, 1100, 1280):
        page.set_viewport_size({"width": width, "height": 860})
        page.goto(f"{web}/admin/orders/order/{task.object_id}/change/")
        assert page.locator("#nav-sidebar").is_visible()
        assert page.evaluate(ROOM_OF_TITLES) > 150, width
    page.close()


def test_charts_beside_each_other_are_equally_high(
    chromium: Any, sqlite_host: Host, walk: dict[str, str]
) -> None:
    web = sqlite_host.web()
    page = chromium.new_page()
    sign_in(page, web)
    page.set_viewport_size({"width": 1366, "height": 860})
    page.goto(web + walk["overview"])
    wait_until_settled(page)
    assert page.locator(".u-legend").count() == 3
    assert len(set(page.evaluate(HEIGHTS_OF_CHARTS))) == 1
    page.close()


def test_what_the_page_of_a_task_says_stands_apart_from_its_buttons(
    chromium: Any, sqlite_host: Host, walk: dict[str, str]
) -> None:
    web = sqlite_host.web()
    page = chromium.new_page()
    sign_in(page, web)
    for state in ("waiting", "scheduled", "running"):
        page.goto(
            f"{web}/admin/tasks/task/{Task.objects.filter(state=state).latest('pk').pk}/change/"
        )
        assert page.evaluate(GAP_BELOW_WHY) >= 8, state
    page.close()


@pytest.mark.parametrize("query", ["", "?wall=1"])
def test_figures_of_any_size_stand_on_one_line_in_their_tiles(
    chromium: Any, sqlite_host: Host, walk: dict[str, str], query: str
) -> None:
    minutes = Figure.objects.filter(span=60, completed__gt=0)
    minutes.filter(start=minutes.latest("start").start).update(completed=2_000_000)
    web = sqlite_host.web()
    page = chromium.new_page()
    sign_in(page, web)
    for width in (390, 768, 1024, 1366, 1920):
        page.set_viewport_size({"width": width, "height": 860})
        page.goto(web + walk["overview"] + query)
        assert page.locator("#af-figures .af-completed > b").inner_text().count(",") == 2
        assert page.evaluate(BROKEN_FIGURES) == [], width
        assert width_beyond(page) <= 0, width
    page.close()


def test_without_scripts_every_page_says_what_it_says(
    chromium: Any, sqlite_host: Host, walk: dict[str, str]
) -> None:
    web = sqlite_host.web()
    page = chromium.new_context(java_script_enabled=False).new_page()
    sign_in(page, web)
    for name, address in walk.items():
        assert page.goto(web + address).status == 200, name
        assert page.locator("#af-root h1").count() == 1, name
        assert page.locator("#af-root .af-script:visible").count() == 0, name
        times = page.locator("#af-root time[data-af-age]").all_inner_texts()
        assert times or name not in ("overview", "changelist", "activity"), name
        for time in times[:3]:
            assert "UTC" in time, (name, time)
    page.context.close()
