"""What bulk actions are called, what they do and what they leave alone, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from tasks.dashboard.counting import Count
from tasks.dashboard.display import SHOWN_STATES
from tasks.dashboard.numbers import number

if TYPE_CHECKING:
    from tasks.dashboard.display import Words


@dataclass(frozen=True, kw_only=True)
class ActionWords:
    """``press``, ``name``: with how many. ``happens``: what becomes of each. ``keeps``: what is
    left alone."""

    title: Words
    press: Any
    name: Any
    happens: Words
    keeps: Words


ACTION_WORDS = {
    "retry": ActionWords(
        title=gettext_lazy("Retry everything that matches"),
        press=ngettext_lazy("Retry %(count)s task", "Retry %(count)s tasks", "n"),
        name=ngettext_lazy("Retry of %(count)s task", "Retry of %(count)s tasks", "n"),
        happens=gettext_lazy(
            "Each task goes back to its queue and is tried again, with as many attempts as it was "
            "created with."
        ),
        keeps=gettext_lazy(
            "Tasks that are not failed or cancelled any more when their turn comes are skipped, "
            "and so are those whose unique key another task holds."
        ),
    ),
    "run_now": ActionWords(
        title=gettext_lazy("Run everything that matches now"),
        press=ngettext_lazy("Run %(count)s task now", "Run %(count)s tasks now", "n"),
        name=ngettext_lazy("Running %(count)s task now", "Running %(count)s tasks now", "n"),
        happens=gettext_lazy(
            "Each task becomes due at once instead of at its own time. Paused queues stay paused."
        ),
        keeps=gettext_lazy("Tasks that are due or running when their turn comes are skipped."),
    ),
    "cancel": ActionWords(
        title=gettext_lazy("Cancel everything that matches"),
        press=ngettext_lazy("Cancel %(count)s task", "Cancel %(count)s tasks", "n"),
        name=ngettext_lazy("Cancelling %(count)s task", "Cancelling %(count)s tasks", "n"),
        happens=gettext_lazy(
            "The tasks will not run, and tasks that wait for one of them are cancelled too."
        ),
        keeps=gettext_lazy("Tasks that run or have ended when their turn comes are skipped."),
    ),
    "complete": ActionWords(
        title=gettext_lazy("Mark everything that matches as done"),
        press=ngettext_lazy("Mark %(count)s task as done", "Mark %(count)s tasks as done", "n"),
        name=ngettext_lazy(
            "Marking %(count)s task as done", "Marking %(count)s tasks as done", "n"
        ),
        happens=gettext_lazy(
            "Nothing is run: the tasks count as done elsewhere, and what waits for them goes on."
        ),
        keeps=gettext_lazy(
            "Tasks that are not failed or cancelled any more when their turn comes are skipped."
        ),
    ),
    "run_again": ActionWords(
        title=gettext_lazy("Run everything that matches again"),
        press=ngettext_lazy("Run %(count)s task again", "Run %(count)s tasks again", "n"),
        name=ngettext_lazy("Running %(count)s task again", "Running %(count)s tasks again", "n"),
        happens=gettext_lazy(
            "What is done already is done once more: mails are sent twice, cards may be charged "
            "twice. Do this only if you know that it may be repeated."
        ),
        keeps=gettext_lazy(
            "Tasks that are not completed when their turn comes are skipped, and so are those "
            "whose unique key another task holds."
        ),
    ),
}

#: Why a task was skipped; besides these the words of its state.
_SKIPPED: dict[str, Words] = {
    "left": gettext_lazy("did not match any more when their turn came"),
    "changed": gettext_lazy("failed or were changed after the button was pressed"),
    "forbidden": gettext_lazy("must not be touched by who started it"),
    "unique_key": gettext_lazy("have a unique key that another task holds"),
    "gone": gettext_lazy("were deleted"),
    "own": gettext_lazy("belong to Aftersave itself"),
}


def press_words(action: str, count: Count) -> str:
    """The text of the button: ``Retry 412 tasks``."""
    return str(ACTION_WORDS[action].press % {"n": count.number, "count": str(count)})


def name_words(action: str, count: Count) -> str:
    """What a bulk action is called: ``Retry of 412 tasks``."""
    words = ACTION_WORDS.get(action)
    return str(words.name % {"n": count.number, "count": str(count)}) if words else action


def skipped_words(skipped: Mapping[str, int]) -> list[tuple[str, str]]:
    """How many were skipped and why, the most first."""
    most = sorted(skipped.items(), key=lambda item: -item[1])
    return [(number(count), _why(why)) for why, count in most]


def _why(why: str) -> str:
    if why in _SKIPPED:
        return str(_SKIPPED[why])
    state = SHOWN_STATES.get(why)
    return _("were %(state)s") % {"state": state.word if state else why}
