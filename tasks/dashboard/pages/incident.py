"""One incident: what failed, what to do about it, and *Try one, then the rest*."""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.http import Http404
from django.utils.translation import gettext as _

from tasks.dashboard.display import state_html, time_html
from tasks.dashboard.incident_buttons import RATES, incident_buttons, rate_name
from tasks.dashboard.incident_facts import Facts, ticket
from tasks.dashboard.page import Page, list_url, page_url
from tasks.dashboard.records import shown_records
from tasks.dashboard.shown_buttons import shown_buttons
from tasks.dashboard.shown_why import shown_whys
from tasks.models import Incident
from tasks.models.addresses import absolute

_PARTS = "tasks/dashboard/parts/"


class IncidentPage(Page):
    """All that is known of one incident, and what can be done."""

    name = "incident"
    path = "incidents/<int:incident_id>/"
    template = "tasks/dashboard/incident.html"
    parts = {
        "af-incident-state": f"{_PARTS}incident_state.html",
        "af-incident-facts": f"{_PARTS}incident_facts.html",
        "af-incident-failure": f"{_PARTS}incident_failure.html",
        "af-incident-trial": f"{_PARTS}incident_trial.html",
        "af-incident-tasks": f"{_PARTS}incident_tasks.html",
        "af-incident-events": f"{_PARTS}incident_events.html",
    }
    tab = "incidents"

    @property
    def title(self) -> str:
        return self.facts.title

    @cached_property
    def facts(self) -> Facts:
        """What the viewer may know. Raises Http404."""
        number = self.arguments["incident_id"]
        try:
            return Facts(self.viewer, Incident.objects.get(pk=number))
        except Incident.DoesNotExist:
            text = _("There is no incident %(number)s (any more).")
            raise Http404(text % {"number": number}) from None

    def context(self) -> dict[str, Any]:
        self.__dict__.pop("facts", None)
        facts = self.facts
        return {
            "facts": facts,
            "incident": facts.incident,
            "shown": facts,
            "incidents_url": page_url(self.viewer, "incidents"),
            "list_url": list_url(self.viewer, facts.search),
            "buttons": incident_buttons(self.viewer, facts.incident),
            "rows": self._rows(facts),
            "ticket": ticket(facts, absolute(self.url())),
            **self._trial(facts),
        }

    def _rows(self, facts: Facts) -> list[dict[str, Any]]:
        records = shown_records(self.viewer, facts.tasks)
        buttons = shown_buttons(self.viewer, facts.tasks)
        return [
            {
                "task": task,
                "url": page_url(self.viewer, "change", task_id=task.pk),
                "record": records.get(task.pk),
                "failed": time_html(task.finished_at),
                "buttons": buttons.get(task.pk, []),
            }
            for task in facts.tasks
        ]

    def _trial(self, facts: Facts) -> dict[str, Any]:
        can_try = self.viewer.has("manage_incident") and self.viewer.has("retry_task")
        number = facts.incident.pk
        found: dict[str, Any] = {
            "can_try": can_try,
            # Of those that would be tried; MAY may refuse each.
            "may_try": can_try and any(self.viewer.may("retry", one) for one in facts.tasks),
            "try_action": page_url(self.viewer, "incident_try", incident_id=number),
        }
        trial = facts.trial
        if trial is None or trial.task is None:
            return found
        whys = {} if trial.is_over else shown_whys(self.viewer, [trial.task])
        elsewhere = facts.elsewhere
        return {
            **found,
            "trial": trial,
            "trial_runs": not trial.is_over,
            "trial_at": time_html(trial.event.at),
            "trial_url": page_url(self.viewer, "change", task_id=trial.task.pk),
            "trial_state": state_html(trial.task),
            "trial_why": whys.get(trial.task.pk),
            "elsewhere_url": page_url(self.viewer, "incident", incident_id=elsewhere.pk)
            if elsewhere
            else "",
            "rest_url": page_url(self.viewer, "bulk", bulk_id=facts.rest.pk) if facts.rest else "",
            "can_rest": can_try and self.viewer.has("bulk_task"),
            "rest_action": page_url(self.viewer, "incident_rest", incident_id=number),
            "rest_preview": self._preview(facts) if facts.rest_is_many else "",
            "rate_name": rate_name(facts.incident),
            "rates": RATES,
        }

    def _preview(self, facts: Facts) -> str:
        asked = {"action": "retry", "q": facts.search, "incident": facts.incident.pk}
        return f"{page_url(self.viewer, 'bulk_new')}?{urlencode(asked)}"
