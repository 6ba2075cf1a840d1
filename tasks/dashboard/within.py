"""Searching what tasks carry: their data and the text of their errors. Secrets are not found."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.models import Exists, JSONField, OuterRef, Q, Value
from django.db.models.fields.json import KeyTransform, KeyTransformExact
from django.utils.translation import gettext as _

from tasks.dashboard.grammar import Term
from tasks.dashboard.meaning import Meaning, NoMeaning
from tasks.handlers import registry
from tasks.models import Failure, SearchKey, Task
from tasks.models.figures import SEARCH_VALUE_LENGTH
from tasks.redact import is_secret_key, redact_text

if TYPE_CHECKING:
    from tasks.dashboard.viewer import Viewer


def data_meaning(viewer: Viewer, term: Term, others: Iterable[Term]) -> Meaning:
    """``data.customer.id:17``. Raises NoMeaning for what is hidden."""
    if not viewer.sees_data:
        raise NoMeaning(_("You may not see the data of tasks, so you cannot search them either."))
    secret = next((part for part in term.path.split(".") if is_secret_key(part)), "")
    if secret:
        text = _("What stands under “%(key)s” is secret: it is hidden and cannot be searched.")
        raise NoMeaning(text % {"key": secret})
    _refuse_secret(term.value)
    words = _("with %(key)s = %(value)s") % {"key": f"data.{term.path}", "value": term.value}
    names = _declaring(term.path, [other.value for other in others if other.key == "name"])
    if not names:
        return Meaning(condition=_equal(term.path, term.value), words=words)
    value = term.value[:SEARCH_VALUE_LENGTH]
    rows = SearchKey.objects.using(Task.objects.db).filter(key=term.path, value=value)
    ids = rows.values_list("task_id", flat=True)
    found = _("%(words)s (found among tasks named %(names)s, which declare this key)")
    return Meaning(
        condition=Q(pk__in=ids),
        words=found % {"words": words, "names": ", ".join(names)},
        keys=ids.order_by("-task_id"),
    )


def error_meaning(viewer: Viewer, term: Term) -> Meaning:
    """``error:"mailbox full"``. Raises NoMeaning for what is hidden."""
    if not viewer.sees_data:
        raise NoMeaning(
            _("You may not see the errors of tasks in full, so you cannot search them either.")
        )
    _refuse_secret(term.value)
    said = Q(message__icontains=term.value) | Q(exception__icontains=term.value)
    failures = Failure.objects.filter(_of_the_task(), said)
    return Meaning(
        condition=Q(reason__icontains=term.value) | Q(Exists(failures)),
        words=_("with an error that contains “%(text)s”") % {"text": term.value},
        keeps=lambda ids: _shown_with(term.value.casefold(), ids),
    )


def _refuse_secret(value: str) -> None:
    if redact_text(value) != value:
        raise NoMeaning(
            _("What you look for reads like a secret: secrets are hidden and cannot be searched.")
        )


def _declaring(path: str, wanted: Collection[str]) -> list[str]:
    """Names whose tasks are found by ``path``, of those that are ``wanted`` if any are."""
    names = sorted(known.name for known in registry if path in known.search)
    return [name for name in names if all(_is_meant(name, one) for one in wanted)]


def _is_meant(name: str, wanted: str) -> bool:
    """Whether ``name:`` with ``wanted`` after it finds tasks of this name."""
    if wanted.endswith(("*", ".")):
        return name.startswith(wanted.removesuffix("*"))
    return name == wanted or ("." not in wanted and name.startswith(f"{wanted}."))


def _equal(path: str, text: str) -> Q:
    """The data has ``text`` under ``path``, as text or as the number or the truth it may mean."""
    place: Any = "data"
    for part in path.split("."):
        # By hand: as keywords, parts like "contains" would be taken for lookups.
        place = KeyTransform(part, place)
    condition = Q(KeyTransformExact(place, Value(text, JSONField())))
    try:
        meant = json.loads(text)
    except ValueError:
        return condition
    if isinstance(meant, bool | int) or (isinstance(meant, float) and math.isfinite(meant)):
        condition |= Q(KeyTransformExact(place, Value(meant, JSONField())))
    return condition


def _of_the_task() -> Q:
    if connections[Failure.objects.db].vendor == "postgresql":
        # Plain equality PostgreSQL may answer by reading all failures into a hash.
        return Q(task_id__gte=OuterRef("pk"), task_id__lte=OuterRef("pk"))
    return Q(task=OuterRef("pk"))


def _shown_with(needle: str, ids: Collection[int]) -> set[int]:
    """Those of ``ids`` in whose errors ``needle`` still stands after secrets were hidden."""
    said: dict[int, list[str]] = defaultdict(list)
    for pk, reason in Task.objects.filter(pk__in=ids).values_list("pk", "reason"):
        said[pk].append(reason)
    failures = Failure.objects.filter(task__in=ids).order_by()
    for pk, exception, message in failures.values_list("task_id", "exception", "message"):
        said[pk] += [exception, message]
    return {pk for pk, texts in said.items() if any(needle in _shown(text) for text in texts)}


def _shown(text: str) -> str:
    return redact_text(text).casefold()
