"""Before a bulk action: how many, which, what happens; and the button that starts it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from django.contrib import messages
from django.db import router
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks import bulk
from tasks.bulk import KINDS, Plan
from tasks.dashboard.bulk_words import ACTION_WORDS, press_words
from tasks.dashboard.display import state_html
from tasks.dashboard.ids import read_id
from tasks.dashboard.incident_facts import SMALL, Facts
from tasks.dashboard.page import Page, list_url, page_url, post, say
from tasks.dashboard.records import ShownRecord, shown_records
from tasks.dashboard.shown_bulk import ShownBulk
from tasks.dashboard.typed import LONGEST_TYPED, typed, typed_whole
from tasks.dashboard.viewer import Viewer
from tasks.dashboard.window import read
from tasks.exceptions import BulkRefused
from tasks.models import BulkAction, Incident, Task
from tasks.redact import redact_text

EXAMPLES = 5
#: What the form carries; in the address it fills the form.
FIELDS = ("action", "q", "reason", "per_second", "incident")


@dataclass(frozen=True)
class Example:
    """One of the tasks it would touch."""

    task: Task
    url: str
    state: SafeString
    reason: str
    record: ShownRecord | None


class BulkNewPage(Page):
    """The preview of a bulk action. Nothing happens before its button is pressed."""

    name = "bulk_new"
    path = "bulk/new/"
    template = "tasks/dashboard/bulk_new.html"
    right = "bulk_task"
    tab = "tasks"

    @property
    def title(self) -> str:
        return str(ACTION_WORDS[self.action].title)

    @cached_property
    def action(self) -> str:
        """What shall be done."""
        action = self.query.get("action", "")
        if action not in KINDS:
            raise Http404(_("There is no bulk action of this name."))
        return action

    @cached_property
    def search(self) -> str:
        """What it shall be done to."""
        # Not cut: a search without its last words would find more.
        return typed_whole(self.query, "q")

    def context(self) -> dict[str, Any]:
        common = {
            "action": self.action,
            "words": ACTION_WORDS[self.action],
            "query": self.search,
            "list_url": list_url(self.viewer, self.search),
        }
        try:
            plan = bulk.plan(self.viewer, self.action, self.search)
        except BulkRefused as refused:
            return {**common, "refused": refused.why}
        return {**common, **self._form(plan)}

    def _form(self, plan: Plan) -> dict[str, Any]:
        examples = self._examples(plan)
        return {
            "count": plan.expected,
            "press": press_words(self.action, plan.expected),
            "explanation": redact_text(plan.match.explanation),
            "examples": examples,
            "repeats": _repeats(examples) if self.action in ("retry", "run_again") else [],
            "runs": self.action not in ("cancel", "complete"),
            "needs_reason": KINDS[self.action].needs_reason,
            "needs_number": plan.expected.number > SMALL,
            "form": {name: self.query.get(name, "") for name in FIELDS},
            "token": uuid4(),
            "longest_reason": LONGEST_TYPED,
            "start_url": page_url(self.viewer, "bulk_start"),
        }

    def _examples(self, plan: Plan) -> list[Example]:
        ids = read(plan.match, size=EXAMPLES).ids
        tasks = list(self.viewer.tasks.filter(pk__in=ids).order_by("-pk").defer("data", "result"))
        records = shown_records(self.viewer, tasks)
        return [
            Example(
                task=task,
                url=page_url(self.viewer, "change", task_id=task.pk),
                state=state_html(task),
                reason=redact_text(task.reason),
                record=records.get(task.pk),
            )
            for task in tasks
        ]


def _repeats(examples: list[Example]) -> list[tuple[str, str]]:
    """Titles of the examples' handlers, and what doing it again may cause."""
    known = {example.task.handler for example in examples if example.task.handler}
    return sorted((one.title or one.name, one.repeat) for one in known if one.repeat)


class NotStarted(Exception):
    """What the person has to mend; the message is for them."""


@post("bulk/start/", "bulk_start")
def start_bulk(viewer: Viewer, request: HttpRequest) -> HttpResponse:
    """Start what the preview showed."""
    given = request.POST
    if given.get("action") not in KINDS:
        raise Http404(_("There is no bulk action of this name."))
    try:
        started = _start(viewer, given)
    except (NotStarted, BulkRefused) as refused:
        why = refused.why if isinstance(refused, BulkRefused) else str(refused)
        say(request, messages.ERROR, _("Nothing was started: %(why)s") % {"why": why})
        again = urlencode({name: given.get(name, "") for name in FIELDS if given.get(name)})
        return HttpResponseRedirect(f"{page_url(viewer, 'bulk_new')}?{again}")
    text = _("%(name)s is under way. This page shows how far it is; you need not stay on it.")
    shown = ShownBulk(viewer, started)
    say(request, messages.SUCCESS, text % {"name": shown.name})
    return HttpResponseRedirect(shown.url)


def _start(viewer: Viewer, given: QueryDict) -> BulkAction:
    plan = bulk.plan(viewer, given.get("action", ""), typed_whole(given, "q"))
    reason = typed(given, "reason")
    if KINDS[plan.action].needs_reason and not reason:
        raise NotStarted(_("please give a reason, others will read it."))
    _check_number(plan, given)
    return plan.start(
        reason=reason,
        per_second=_per_second(given.get("per_second", "")),
        token=_token(given.get("token", "")),
        incident=_incident(viewer, plan.action, given.get("incident", "")),
    )


def _check_number(plan: Plan, given: QueryDict) -> None:
    """Of many the person has typed how many they are, and meanwhile they are not many more."""
    count = plan.expected
    if not count.number and not count.exact:
        raise NotStarted(_("it took too long to count what matches. Narrow the search."))
    if not count.number:
        raise NotStarted(_("nothing matches any more."))
    shown, typed = _number(given.get("shown", "")), _number(given.get("number", ""))
    if count.number > SMALL and typed != shown:
        raise NotStarted(
            _("type the number of tasks, %(count)s, to confirm that you mean so many.")
            % {"count": count}
        )
    if count.number > max(SMALL, 2 * shown):
        raise NotStarted(
            ngettext(
                "meanwhile %(count)s task matches. Look again.",
                "meanwhile %(count)s tasks match. Look again.",
                count.number,
            )
            % {"count": count}
        )


def _number(text: str) -> int:
    """The number in ``≈ 12,000``; 0 without one."""
    digits = re.sub(r"\D", "", text)[:15]
    return int(digits) if digits else 0


def _per_second(text: str) -> float | None:
    if not text.strip():
        return None
    # "1,000" is a thousand to some and one to others.
    is_clear = re.fullmatch(r"\d{1,9}(?:[.,]\d{1,2})?", text.strip())
    number = float(text.strip().replace(",", ".")) if is_clear else 0
    if not 0.01 <= number <= bulk.FASTEST:
        raise NotStarted(
            _("“%(text)s” is no number of tasks a second. Leave it empty for no limit.")
            % {"text": text[:50]}
        )
    return number


def _token(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _incident(viewer: Viewer, action: str, text: str) -> Incident | None:
    """Whose rest it is, if this person may know of it and decide about it."""
    number = read_id(text)
    if number is None:
        return None
    if action != "retry" or not viewer.has("manage_incident"):
        return None
    incidents = Incident.objects.using(router.db_for_write(Task))
    try:
        return Facts(viewer, incidents.get(pk=number)).incident
    except Incident.DoesNotExist:
        return None
