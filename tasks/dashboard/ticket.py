"""What is copied into a ticket: plain text, redacted as the page is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.utils.translation import gettext as _

from tasks.dashboard.display import attempts_text, exact, state_word
from tasks.dashboard.entries import Entry, Story, one_sentence
from tasks.dashboard.shown_why import ShownWhy
from tasks.models import LIVE, Task
from tasks.models.addresses import absolute

LONGEST_TRACEBACK = 8000


def ticket(
    url: str,
    tasks: Sequence[Task],
    whys: Mapping[int, ShownWhy],
    story: Story,
    *,
    title: str,
    line: str = "",
) -> str:
    """The page in words: what it is about, where it is, how its tasks are and why, what happened.

    ``line`` says more about it: whose task it is, or how many are done.
    """
    lines = [title, absolute(url), *([line] if line else []), ""]
    lines += [_task_line(task, whys[task.pk]) for task in tasks]
    lines += ["", _("What happened:"), *(_entry_line(entry) for entry in story.entries)]
    tracebacks = [entry.traceback for entry in story.entries if entry.traceback]
    if tracebacks:
        lines += ["", tracebacks[-1][-LONGEST_TRACEBACK:]]
    return "\n".join(lines)


def _task_line(task: Task, why: ShownWhy) -> str:
    values = {
        "task": f"{task.title} #{task.pk} ({task.name})",
        "state": state_word(task),
        "attempts": attempts_text(task),
        "queue": task.queue,
    }
    text = _("%(task)s: %(state)s, attempts %(attempts)s, queue %(queue)s") % values
    told = one_sentence(why.text if task.state in LIVE else task.reason)
    return f"{text}: {told}" if told else text


def _entry_line(entry: Entry) -> str:
    subject = f"{entry.task.title} #{entry.task.pk}: " if entry.task else ""
    said = f" “{entry.said}”" if entry.said else ""
    small = f" ({', '.join(entry.small)})" if entry.small else ""
    who = f"{entry.who} " if entry.who else ""
    return f"- {exact(entry.at)}: {subject}{who}{entry.sentence}{said}{small}"
