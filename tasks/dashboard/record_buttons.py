"""*Retry all failed of this record*: the button, and what was seen of the tasks that it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

from django.utils.translation import gettext as _

from tasks.dashboard.buttons import RETRY, reason_name
from tasks.dashboard.shown_buttons import ShownButton
from tasks.dashboard.versions import versions
from tasks.models import Task, TaskQuerySet

#: Tasks of one record that are retried at once; for more there are bulk actions.
MOST_RETRIED = 1000
_NAME, _KEY = "retry_all", "record"
#: The name of the field for the reason.
REASON = reason_name(_NAME, _KEY)
#: So many are put in order, to have the same ones each time.
_MOST_SORTED = 10_000


def meant(tasks: TaskQuerySet) -> tuple[list[int], bool]:
    """Ids of the failed ones among a record's ``tasks``, and whether it has more than these."""
    # In no order: the rows come from the index by record, and are few.
    failed = tasks.failed().order_by().values_list("pk", flat=True)
    ids = sorted(failed[:_MOST_SORTED])
    return ids[:MOST_RETRIED], len(ids) > MOST_RETRIED


def seen_of(tasks: Iterable[Task]) -> str:
    """What is compared when it is pressed: which tasks, and how each of them was."""
    return seen_of_versions(versions(tasks))


def seen_of_versions(known: Mapping[int, str]) -> str:
    """The same, of what ``versions`` has said of them."""
    text = ",".join(f"{pk}:{known[pk]}" for pk in sorted(known))
    return blake2b(text.encode(), digest_size=12).hexdigest()


def retry_all_button(url: str, seen: str) -> ShownButton:
    """The button for those of a record's failed tasks that are ``meant``."""
    return ShownButton(
        name=_NAME,
        key=_KEY,
        label=_("Retry all failed of this record"),
        url=url,
        asks=RETRY.asks,
        look=RETRY.look,
        version=seen,
    )
