"""Why a task does not run, on a page: the sentence with its times, and the remedies one may use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tasks.dashboard.display import exact, time_html
from tasks.dashboard.page import page_url
from tasks.dashboard.queue_buttons import RESUME_LABEL, version
from tasks.dashboard.shown_buttons import ShownButton
from tasks.dashboard.viewer import Viewer
from tasks.models import Task
from tasks.why import TIME, Reason, Remedy, whys


@dataclass(frozen=True, kw_only=True)
class ShownWhy:
    """``text``: the sentence without markup, its times whole. ``links``: label, address, and
    whether it leads away from the pages."""

    kind: str
    sentence: SafeString
    text: str
    advice: list[str]
    command: str
    links: list[tuple[str, str, bool]]
    buttons: list[ShownButton]


def shown_whys(viewer: Viewer, tasks: Iterable[Task]) -> dict[int, ShownWhy]:
    """The reason of each task, by id. What may be done to the task itself stands in its buttons."""
    visible = viewer.tasks if viewer.is_scoped else None
    reasons = whys(tasks, visible=visible)
    return {key: _shown(viewer, reason) for key, reason in reasons.items()}


def sentence(reason: Reason) -> SafeString:
    """The reason with its times as elements that the page's script makes local."""
    before, *rest = reason.pattern.split(TIME)
    times = [time_html(moment, exact(moment)) for moment in reason.times]
    after = format_html_join("", "{}{}", zip_longest(times, rest, fillvalue=""))
    return format_html("{}{}", before, after)


def _text(reason: Reason) -> str:
    text = reason.pattern
    for moment in reason.times:
        text = text.replace(TIME, exact(moment), 1)
    return text


def _shown(viewer: Viewer, reason: Reason) -> ShownWhy:
    return ShownWhy(
        kind=reason.kind,
        sentence=sentence(reason),
        text=_text(reason),
        advice=[remedy.text for remedy in reason.remedies if remedy.kind == "advice"],
        command=next((remedy.command for remedy in reason.remedies if remedy.command), ""),
        links=[link for remedy in reason.remedies if (link := _link(viewer, remedy))],
        buttons=[
            _resume(viewer, remedy)
            for remedy in reason.remedies
            if remedy.action == "resume" and viewer.has("pause_queue")
        ],
    )


def _resume(viewer: Viewer, remedy: Remedy) -> ShownButton:
    return ShownButton(
        name="resume",
        label=str(RESUME_LABEL),
        url=page_url(viewer, "queue_resume", queue=remedy.queue),
        key=remedy.queue,
        asks="",
        version=version(remedy.paused_at),
        look="af-primary",
    )


def _link(viewer: Viewer, remedy: Remedy) -> tuple[str, str, bool] | None:
    if remedy.kind == "task":
        return remedy.text, page_url(viewer, "change", task_id=remedy.task_id), False
    if remedy.kind == "address":
        return remedy.text, remedy.url, True
    return None
