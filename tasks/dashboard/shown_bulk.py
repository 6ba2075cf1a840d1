"""How far a bulk action is, for the page of its own and for the activity page."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks.bulk import is_adrift, scope_of
from tasks.bulk_viewer import WHY_STOPPED
from tasks.dashboard.bulk_words import name_words, skipped_words
from tasks.dashboard.counting import Count
from tasks.dashboard.display import clock_html
from tasks.dashboard.grammar import parse
from tasks.dashboard.numbers import number, rate
from tasks.dashboard.page import list_url, page_url
from tasks.dashboard.queue_buttons import version
from tasks.dashboard.viewer import RIGHTS, Viewer
from tasks.models import BulkAction, State, Task
from tasks.redact import redact_text


def may_see(viewer: Viewer, bulk: BulkAction) -> bool:
    """Whether its figures tell the person nothing of tasks they may not know of."""
    return not viewer.is_scoped or scope_of(viewer) == bulk.scope or _is_own(viewer, bulk)


def may_steer(viewer: Viewer, bulk: BulkAction) -> bool:
    """Whether the person may pause, resume and cancel it."""
    return viewer.has("bulk_task") and viewer.has(RIGHTS.get(bulk.action, "bulk_task"))


def _is_own(viewer: Viewer, bulk: BulkAction) -> bool:
    return str(viewer.user.pk) == bulk.user_id


class ShownBulk:
    """A bulk action for people. Loads ``bulk.task``: select it with the rows of a list."""

    def __init__(self, viewer: Viewer, bulk: BulkAction) -> None:
        self.viewer = viewer
        self.bulk = bulk

    @property
    def id(self) -> int:
        """Its number."""
        return int(self.bulk.pk)

    @property
    def url(self) -> str:
        """The address of its page."""
        return page_url(self.viewer, "bulk", bulk_id=self.bulk.pk)

    @property
    def name(self) -> str:
        """``Retry of 412 tasks``."""
        return name_words(self.bulk.action, self.expected)

    @property
    def expected(self) -> Count:
        """How many matched when it was pressed; of an estimate what was found since is better."""
        bulk = self.bulk
        if bulk.expected_is_exact:
            return Count(bulk.expected)
        known = bulk.looked_at if self.status == "finished" else max(bulk.expected, bulk.looked_at)
        return Count(known, exact=False)

    @cached_property
    def status(self) -> str:
        """finished, cancelled, stopped, paused, adrift, retrying, sleeping, working or waiting."""
        bulk = self.bulk
        if bulk.stopped_because:
            return "stopped"
        if bulk.cancelled_at:
            return "cancelled"
        if bulk.finished_at:
            return "finished"
        if bulk.paused_at:
            return "paused"
        if is_adrift(bulk) or bulk.task is None:
            return "adrift"
        if bulk.task.state == State.RUNNING:
            return "working"
        if bulk.task.due:
            return "waiting"
        return "retrying" if self._has_failed(bulk.task) else "sleeping"

    def _has_failed(self, task: Task) -> bool:
        """Whether its last step failed, so that it waits and does not only sleep."""
        # Sleeping uses up no attempts; but those a killed worker used up stay.
        last = task.failures.order_by("-pk").first() if task.attempts else None
        return last is not None and last.at > (self.bulk.progressed_at or self.bulk.created_at)

    @property
    def status_html(self) -> SafeString:
        """Sign and word."""
        look, icon, word = _STATUS[self.status]
        return format_html(
            '<span class="af-state af-{}"><span class="af-icon" aria-hidden="true">{}</span>{}'
            "</span>",
            look,
            icon,
            word,
        )

    @property
    def version(self) -> str:
        """What the page showed, for buttons pressed later."""
        return version(self.bulk.paused_at)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be done."""
        return self.bulk.finished_at is not None

    @property
    def done(self) -> str:
        """How many were done."""
        return number(self.bulk.done)

    @property
    def seen(self) -> int:
        """How far the bar is filled."""
        return self.most if self.status == "finished" else min(self.bulk.looked_at, self.most)

    @property
    def most(self) -> int:
        """How long the bar is."""
        return max(self.bulk.expected, self.bulk.looked_at, 1)

    @property
    def progress(self) -> str:
        """``1,200 of 3,000 done``."""
        return _("%(done)s of %(expected)s done") % {"done": self.done, "expected": self.expected}

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """How many were skipped, and why."""
        return skipped_words(self.bulk.skipped)

    @property
    def why_stopped(self) -> str:
        """Why it ended before its time, or nothing."""
        why = self.bulk.stopped_because
        return str(WHY_STOPPED.get(why, why))

    @property
    def ends(self) -> SafeString:
        """When it will be through if it goes on like this; empty when nobody can say."""
        bulk = self.bulk
        left = bulk.expected - bulk.looked_at
        if self.status not in ("working", "sleeping", "waiting") or left <= 0 or not bulk.rate:
            return SafeString("")
        seconds = min(left / bulk.rate, 10 * 365 * 86400)
        assert bulk.progressed_at is not None
        return clock_html(bulk.progressed_at + timedelta(seconds=seconds))

    @property
    def pace(self) -> str:
        """How fast it goes lately, and how fast it may go."""
        if self.bulk.per_second is None:
            most = _("as fast as it goes")
        else:
            most = _("at most %(number)s a second") % {"number": rate(self.bulk.per_second)}
        if self.is_over or not self.bulk.rate:
            return most
        return _("%(number)s a second lately, %(most)s") % {
            "number": rate(self.bulk.rate),
            "most": most,
        }

    @property
    def who(self) -> str:
        """Who started it."""
        return self.bulk.who or _("A program")

    @property
    def reason(self) -> str:
        """Why, in the words of who started it."""
        return redact_text(self.bulk.reason)

    @property
    def search_url(self) -> str:
        """The list of what matches now."""
        return list_url(self.viewer, self.bulk.query)

    @property
    def search(self) -> str:
        """What it acts on, as in the list's search; empty where it tells what tasks carry."""
        return "" if self.hides_search else redact_text(self.bulk.query)

    @cached_property
    def hides_search(self) -> bool:
        """Whether the search names data that the person may not see."""
        carried = ("data", "error")
        terms = parse(self.bulk.query)[0]
        return not self.viewer.sees_data and any(term.key in carried for term in terms)


_STATUS = {
    "finished": ("completed", "✓", gettext_lazy("done")),
    "cancelled": ("cancelled", "⊘", gettext_lazy("cancelled")),
    "stopped": ("failed", "✕", gettext_lazy("stopped")),
    "paused": ("later", "‖", gettext_lazy("paused")),
    "adrift": ("failed", "✕", gettext_lazy("interrupted")),
    "working": ("running", "▶", gettext_lazy("at work")),
    "waiting": ("due", "●", gettext_lazy("waiting for a worker")),
    "sleeping": ("running", "◷", gettext_lazy("at work, throttled")),
    "retrying": ("retrying", "↻", gettext_lazy("tried again after a failure")),
}
