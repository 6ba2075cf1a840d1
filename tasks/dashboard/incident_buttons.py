"""What staff may do about an incident: each is one POST, one right, one event."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy

from tasks.dashboard.page import page_url
from tasks.dashboard.typed import LONGEST_TYPED
from tasks.dashboard.viewer import Viewer
from tasks.models import Incident

if TYPE_CHECKING:
    from tasks.dashboard.display import Words

#: How long an incident may be muted, by the word that the form sends.
MUTES: dict[str, tuple[timedelta, Words]] = {
    "1h": (timedelta(hours=1), gettext_lazy("1 hour")),
    "4h": (timedelta(hours=4), gettext_lazy("4 hours")),
    "1d": (timedelta(days=1), gettext_lazy("1 day")),
    "1w": (timedelta(weeks=1), gettext_lazy("1 week")),
}

#: Tasks a second that the page offers for the others after a trial; 0 is as fast as it goes.
RATES = (1, 10, 100, 0)

_OPEN, _TAKEN, _MUTED, _RESOLVED = Incident.Status.values


@dataclass(frozen=True)
class Button:
    """One thing that can be done. ``asks``: "nothing", "reason", "until" or "note"."""

    name: str
    label: Words
    done: Words
    states: tuple[str, ...]
    asks: str = "nothing"
    help: Words = ""

    longest_reason = LONGEST_TYPED

    @property
    def path(self) -> str:
        """The name of its address."""
        return f"incident_{self.name}"


BUTTONS = {
    button.name: button
    for button in (
        Button(
            "take",
            gettext_lazy("Take it"),
            gettext_lazy("You look after this incident now."),
            (_OPEN, _MUTED),
        ),
        Button(
            "release",
            gettext_lazy("Give it back"),
            gettext_lazy("The incident is open again for somebody else to take."),
            (_TAKEN,),
        ),
        Button(
            "mute",
            gettext_lazy("Mute"),
            gettext_lazy("It is muted: until the time shown here nobody is told of it."),
            (_OPEN, _TAKEN),
            "until",
            gettext_lazy("No alert is sent for it until then. It comes back by itself."),
        ),
        Button(
            "unmute",
            gettext_lazy("End the mute"),
            gettext_lazy("The incident is open again."),
            (_MUTED,),
        ),
        Button(
            "note",
            gettext_lazy("Note and link"),
            gettext_lazy("The note was kept."),
            (_OPEN, _TAKEN, _MUTED, _RESOLVED),
            "note",
        ),
        Button(
            "resolve",
            gettext_lazy("Resolve"),
            gettext_lazy("The incident is resolved. It opens again with the next failure."),
            (_OPEN, _TAKEN, _MUTED),
            "reason",
            gettext_lazy(
                "It resolves by itself when none of its tasks is failed any more. Its failed "
                "tasks stay failed; it opens again with the next failure."
            ),
        ),
    )
}


@dataclass(frozen=True)
class ShownButton:
    """A button with its address. ``version`` is what the page showed."""

    button: Button
    url: str
    version: str

    @property
    def mutes(self) -> list[tuple[str, Words]]:
        """What the choice of a mute offers."""
        return [(word, label) for word, (_length, label) in MUTES.items()]


def incident_buttons(viewer: Viewer, incident: Incident) -> list[ShownButton]:
    """What the viewer may do to the incident as it is now."""
    if not viewer.has("manage_incident"):
        return []
    return [
        ShownButton(
            button, page_url(viewer, button.path, incident_id=incident.pk), version(incident)
        )
        for button in BUTTONS.values()
        if incident.status in button.states
    ]


def version(incident: Incident) -> str:
    """Changes whenever somebody decided something about the incident."""
    until = incident.muted_until.isoformat() if incident.muted_until else ""
    noted = f"{incident.note}\n{incident.link}"
    seal = hashlib.sha256(noted.encode()).hexdigest()[:16] if noted.strip() else ""
    return " ".join(filter(None, (incident.status, incident.taken_by, until, seal)))


def rate_name(incident: Incident) -> str:
    """The name of the field that says how fast the others are retried."""
    return f"rate-{incident.pk}"
