"""How facts look: times above all."""

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils.translation import override

from tasks.dashboard.display import exact, time_html, took
from tests.tasks.admin_rows import LIST, staff, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def in_tokyo(settings: Any) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"


@pytest.mark.parametrize("use_tz", [True, False], ids=["with zones", "without"])
def test_a_time_is_told_in_utc_and_names_its_zone(settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    stored = datetime(2026, 11, 22, 0, 30, tzinfo=UTC) if use_tz else datetime(2026, 11, 22, 9, 30)
    assert 'datetime="2026-11-22T00:30:00+00:00"' in time_html(stored)
    assert exact(stored).endswith(", 09:30:00 JST")


@pytest.mark.parametrize("use_tz", [True, False], ids=["with zones", "without"])
def test_a_page_tells_its_script_the_time_whatever_the_zone(settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    page = text_of(staff("view_task").get(LIST))
    told = re.search(r'data-af-now="([\d.]+)"', page)
    assert told is not None
    assert abs(float(told[1]) - time.time()) < 60


@pytest.mark.parametrize(("language", "said"), [("en", "1.50 s"), ("de", "1,50 s")])
def test_a_duration_is_written_as_the_language_writes_numbers(language: str, said: str) -> None:
    began = datetime(2026, 11, 22, tzinfo=UTC)
    with override(language):
        assert took(began, began + timedelta(seconds=1.5)) == said
