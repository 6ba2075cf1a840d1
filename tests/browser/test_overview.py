"""The overview's charts and an incident's *Try one, then the rest*, as readers see them change."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from tasks import enqueue
from tasks.models import Figure, Task
from tests.browser.live_site import Site, until
from tests.services.host import Host
from tests.services.waiting import wait_for
from tests.tasks.dashboard.scene import paint

CHARTS = ("throughput", "failures", "wait")
#: Whether a chart has a line in a colour that is no grey.
DRAWN = """name => {
  const canvas = document.querySelector(`[data-af-plot="af-facts-${name}"] canvas`);
  if (!canvas) return false;
  // Of a copy: Chromium complains of whoever reads a canvas of the page twice.
  const place = new OffscreenCanvas(canvas.width, canvas.height);
  const copy = place.getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < data.length; i += 4) {
    const [r, g, b, alpha] = data.slice(i, i + 4);
    if (alpha > 200 && Math.max(r, g, b) - Math.min(r, g, b) > 60) return true;
  }
  return false;
}"""
PIXELS = (
    """name => document.querySelector(`[data-af-plot="af-facts-${name}"] canvas`).toDataURL()"""
)


@pytest.fixture
def site(sqlite_host: Host) -> Site:
    return Site(sqlite_host)


@pytest.fixture
def complaints(page: Any) -> list[str]:
    found: list[str] = []

    def hear(message: Any) -> None:
        is_icon = message.location["url"].endswith("/favicon.ico")  # which this shop has not
        if message.type in ("error", "warning") and not is_icon:
            found.append(message.text)

    page.on("console", hear)
    return found


def test_charts_are_drawn_and_follow_without_being_drawn_anew(
    page: Any, site: Site, complaints: list[str]
) -> None:
    paint()
    site.sign_in(page)
    site.open(page, "overview/")
    for name in CHARTS:
        until(page, lambda name=name: page.evaluate(DRAWN, name), f"the chart {name}")
    page.evaluate("for (const one of document.querySelectorAll('canvas')) one.isOld = true")
    before = page.evaluate(PIXELS, "throughput")
    minute = timezone.now().replace(second=0, microsecond=0)
    for ago in range(1, 4):
        Figure.objects.create(start=minute - timedelta(minutes=ago), process=99, completed=500)
    legend = page.locator("[data-af-plot='af-facts-throughput'] .u-legend")
    # What was painted there are 20 to 110, by the hour of the day.
    newest = re.compile(r"completed\s*[56]\d\d")
    until(page, lambda: newest.search(legend.inner_text()), "the newest value in the legend")
    until(page, lambda: page.evaluate(PIXELS, "throughput") != before, "the new numbers")
    assert page.evaluate("[...document.querySelectorAll('canvas')].every(one => one.isOld)")
    assert not complaints


def test_charts_change_with_the_theme_and_with_the_width(page: Any, site: Site) -> None:
    paint()
    site.sign_in(page)
    site.open(page, "overview/?span=day")
    until(page, lambda: page.evaluate(DRAWN, "wait"), "the chart")
    light = page.evaluate(PIXELS, "wait")
    page.emulate_media(color_scheme="dark")
    until(page, lambda: page.evaluate(PIXELS, "wait") != light, "other colours")
    page.set_viewport_size({"width": 390, "height": 800})
    plot = page.locator("[data-af-plot='af-facts-wait']")
    until(
        page,
        lambda: plot.locator("canvas").bounding_box()["width"] == plot.bounding_box()["width"],
        "the chart as wide as its place",
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_below_the_edge_of_a_chart_is_room_for_a_time_of_any_locale(
    chromium: Any, site: Site
) -> None:
    paint()
    context = chromium.new_context(locale="en-US")
    page = context.new_page()
    site.sign_in(page)
    site.open(page, "overview/")
    until(page, lambda: page.evaluate(DRAWN, "wait"), "the chart")
    room, half = page.evaluate("""() => {
      const edge = (one) => document.querySelector(one).getBoundingClientRect().right;
      const pen = document.querySelector(".af-plot canvas").getContext("2d");
      pen.font = getComputedStyle(document.querySelector(".af-plot")).font;
      const room = edge(".af-plot canvas") - edge(".af-plot .u-over");
      return [room, pen.measureText("06:00 PM").width / 2];
    }""")
    assert room >= half
    context.close()


def test_without_scripts_the_numbers_are_there_as_text_and_table(chromium: Any, site: Site) -> None:
    paint()
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    site.sign_in(page)
    page.goto(f"{site.web}/admin/tasks/task/overview/")
    assert "tasks completed in the last hour" in page.locator("#af-summary-throughput").inner_text()
    page.locator("#af-fold-chart-throughput summary").click()
    assert page.locator("#af-fold-chart-throughput tbody tr").count() == 60
    assert not page.locator(".af-plot").first.is_visible()
    context.close()


def test_one_is_tried_followed_and_then_the_others_are_retried(
    page: Any, site: Site, short_path: Path, complaints: list[str]
) -> None:
    mended = short_path / "mended"
    code = f"import os\nif not os.path.exists({str(mended)!r}): raise ValueError('the CRM is away')"
    tasks = [enqueue("work.poison", {"code": code}) for _ in range(5)]
    worker = site.worker("--threads", "2")
    wait_for(lambda: Task.objects.failed().count() == 5, timeout=40, what=worker.output())
    site.sign_in(page)
    site.open(page, "incidents/")

    def press(what: Any) -> None:
        """Click, and wait until the page that answers is live."""
        with page.expect_navigation(wait_until="load"):
            what.click()
        site.wait_until_live(page)

    press(page.locator(".af-incident a"))
    press(page.get_by_role("button", name="Try one"))
    trial = page.locator("#af-incident-trial")
    until(page, lambda: "It failed again. ValueError: the CRM is away" in trial.inner_text())
    mended.touch()
    press(page.get_by_role("button", name="Try another one"))
    until(page, lambda: "It worked." in trial.inner_text(), "the trial's end")
    assert Task.objects.completed().filter(type="work").count() == 1

    press(page.get_by_role("button", name="Retry the other 4"))
    assert "/bulk/" in page.url
    ids = [task.pk for task in tasks]
    done = Task.objects.completed().filter(pk__in=ids)
    until(page, lambda: done.count() == 5, "all completed", timeout=40)
    assert not complaints
