"""Every page for everybody: screen readers and weak eyes (axe), phones, no scripts."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tasks.models import Worker
from tests.browser.walk import (
    open_folds,
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
