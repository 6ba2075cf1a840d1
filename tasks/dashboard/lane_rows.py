"""Queues as rows of a table: with their roll-ups, links and buttons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.safestring import SafeString

from tasks import figures
from tasks.dashboard.display import time_html
from tasks.dashboard.grammar import quoted
from tasks.dashboard.lanes import Lane
from tasks.dashboard.numbers import about, more_than, rate, share
from tasks.dashboard.page import list_url
from tasks.dashboard.probes import MOST_COUNTED
from tasks.dashboard.queue_buttons import queue_buttons
from tasks.dashboard.shown_buttons import ShownButton
from tasks.dashboard.viewer import Viewer
from tasks.figures import Counts
from tasks.models import Queue
from tasks.redact import redact_text

#: What "finished a minute" is the mean of.
_RATE_OF = timedelta(minutes=5)
#: From this share on the number is marked.
_MUCH_FAILS = 0.1


@dataclass(frozen=True)
class ShownLane:
    """A queue as a row. ``finished`` and ``failing`` are over all tasks: empty when scoped."""

    lane: Lane
    paused_at: SafeString
    paused_reason: str
    due: str
    due_url: str
    running: str
    running_url: str
    finished: str = ""
    failing: str = ""
    fails_much: bool = False
    failed_url: str = ""
    button: ShownButton | None = None


def shown_lanes(
    viewer: Viewer, found: Sequence[Lane], hour: Mapping[str, Counts], *, wall: bool
) -> list[ShownLane]:
    """``found`` as rows; one query. ``hour``: by queue what was done in the last hour.

    No buttons on a ``wall``.
    """
    lately = {} if viewer.is_scoped else _lately(viewer.tasks.db, found)
    due = {lane.name: more_than(lane.due, MOST_COUNTED) for lane in found}
    rows = [lane.row or Queue(name=lane.name) for lane in found]
    buttons = {} if wall else queue_buttons(viewer, rows, due)
    return [
        _row(viewer, lane, due[lane.name], lately, hour, buttons.get(lane.name)) for lane in found
    ]


def _lately(using: str, found: Sequence[Lane]) -> dict[str, Counts]:
    """What was done in each queue in the last minutes; nothing where nobody reported."""
    minute = timezone.now().replace(second=0, microsecond=0)
    lately = {"since": minute - _RATE_OF, "until": minute}
    if not figures.was_reported(using, **lately):
        return {}
    return {lane.name: Counts() for lane in found} | figures.by_queue(using, **lately)


def _row(
    viewer: Viewer,
    lane: Lane,
    due: str,
    lately: Mapping[str, Counts],
    hour: Mapping[str, Counts],
    button: ShownButton | None,
) -> ShownLane:
    place = quoted(lane.name)
    shown: dict[str, Any] = {
        "paused_at": time_html(lane.row.paused_at if lane.row else None),
        "paused_reason": redact_text(lane.row.paused_reason) if lane.row else "",
        "due": due,
        "due_url": list_url(viewer, f"state:due queue:{place}"),
        "running": about(lane.running, exact=lane.running_is_exact),
        "running_url": list_url(viewer, f"state:running queue:{place}"),
        "button": button,
    }
    if viewer.is_scoped:
        return ShownLane(lane, **shown)
    done = lately.get(lane.name)
    part = hour[lane.name].failing_share if lane.name in hour else None
    return ShownLane(
        lane,
        finished=rate(done.finished / (_RATE_OF / timedelta(minutes=1)) if done else None),
        failing=share(part),
        fails_much=part is not None and part >= _MUCH_FAILS,
        failed_url=list_url(viewer, f"state:failed queue:{place}"),
        **shown,
    )
