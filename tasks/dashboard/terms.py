"""What each term of a search means: a condition on tasks, words that explain it, an index."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import Q
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from tasks.dashboard import probes
from tasks.dashboard.display import SHOWN_STATES
from tasks.dashboard.finding import (
    MOST_RECORDS,
    Keys,
    find_records,
    of_records,
    record_condition,
    task_number,
    tidy,
)
from tasks.dashboard.grammar import Term, nearest
from tasks.dashboard.meaning import Meaning, NoMeaning, meant, only_one
from tasks.dashboard.spans import NoSpan, span
from tasks.dashboard.within import data_meaning, error_meaning
from tasks.handlers import registry
from tasks.models import Incident, State, Task, Worker
from tasks.names import ACTION_LENGTH, TYPE_LENGTH

if TYPE_CHECKING:
    from tasks.dashboard.display import Words
    from tasks.dashboard.viewer import Viewer

MOST_IDS = 100
MOST_WORKERS = 1000


HEADS: dict[str, Words] = {
    "waiting": gettext_lazy("tasks that wait for others"),
    "later": gettext_lazy("tasks planned for later"),
    "due": gettext_lazy("tasks that are due"),
    "running": gettext_lazy("running tasks"),
    "retrying": gettext_lazy("tasks that are tried again"),
    "failed": gettext_lazy("failed tasks"),
    "completed": gettext_lazy("completed tasks"),
    "cancelled": gettext_lazy("cancelled tasks"),
}
CONDITIONS = {
    "waiting": Q(state=State.WAITING),
    "later": Q(state=State.SCHEDULED, due=False, attempts=0),
    "due": Q(state=State.SCHEDULED, due=True),
    "running": Q(state=State.RUNNING),
    "retrying": Q(state=State.SCHEDULED, due=False, attempts__gt=0),
    "failed": Q(state=State.FAILED),
    "completed": Q(state=State.COMPLETED),
    "cancelled": Q(state=State.CANCELLED),
}
#: What people write for them.
_STATES_MEANT = {
    "wait": "waiting",
    "planned": "later",
    "scheduled": "later",
    "pending": "due",
    "queued": "due",
    "ready": "due",
    "retry": "retrying",
    "fail": "failed",
    "failure": "failed",
    "errors": "failed",
    "done": "completed",
    "complete": "completed",
    "finished": "completed",
    "canceled": "cancelled",
}
#: Their indexes are sorted by id; that of the last one only where it is a partial one.
_IN_ORDER = ("failed", "waiting", "retrying")
_FEW = ("running", "due", "later", "retrying")


def meaning(viewer: Viewer, term: Term, now: datetime, others: Iterable[Term] = ()) -> Meaning:
    """What ``term`` means to this person beside ``others``. Raises NoMeaning."""
    if term.key == "data":
        return data_meaning(viewer, term, others)
    return _READERS[term.key](viewer, term, now)


def _state(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    wanted = term.value.lower()
    if "," in wanted:
        raise only_one("state", ",".join(state_meant(one) or one for one in wanted.split(",")))
    if wanted not in CONDITIONS:
        near = state_meant(wanted) or nearest(wanted, CONDITIONS)
        raise NoMeaning(_unknown(term, near, CONDITIONS))
    is_partial = connections[viewer.tasks.db].features.supports_partial_indexes
    in_order = wanted in _IN_ORDER and (is_partial or wanted != "retrying")
    return Meaning(
        condition=CONDITIONS[wanted],
        head=str(HEADS[wanted]),
        in_order=in_order,
        few=wanted in _FEW and not in_order,
        are_more=_more_are_later if wanted == "later" else None,
        state=wanted,
    )


def state_meant(word: str) -> str:
    """The state that people call so, or nothing."""
    wanted = word.strip().lower()
    words = {str(shown.word).lower(): key for key, shown in SHOWN_STATES.items()}
    known = words | dict(zip(CONDITIONS, CONDITIONS, strict=True)) | _STATES_MEANT
    return known.get(wanted, "")


def _more_are_later(than: int) -> bool:
    """Their index has those that are tried again as well: without its rows two indexes tell."""
    coming = Task.objects.filter(state=State.SCHEDULED, due=False).order_by("run_at")
    tried = Task.objects.retrying().order_by("id")
    found, beside = probes.counts([coming, tried], 2 * than)
    return beside > than or found - beside > than


def _queue(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    if "," in term.value:
        raise only_one("queue", term.value)
    text = _("in the queue %(queue)s")
    return Meaning(
        condition=Q(queue=term.value), queue=term.value, words=text % {"queue": term.value}
    )


def _name(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    condition, words = _named(term.value)
    if condition is None and "," in term.value:
        raise only_one("name", term.value)
    if condition is None:
        near = nearest(term.value, (known.name for known in registry))
        text = _(
            "“%(value)s” is no name of tasks: write email.order_confirmation, or email.* for all "
            "that begin with “email.”."
        )
        raise NoMeaning(f"{text % {'value': term.value}} {meant('name', near)}".strip())
    return Meaning(condition=condition, words=words)


def _named(text: str) -> tuple[Q | None, str]:
    """``email.send``; ``email.*``, ``email.`` and ``email`` for the type, ``email.or*``."""
    if not re.fullmatch(r"[\w-]+(\.[\w-]+)*(\.?\*|\.)?", text, re.ASCII):
        return None, ""
    type_, _dot, action = text.removesuffix("*").partition(".")
    if len(type_) > TYPE_LENGTH or len(action) > ACTION_LENGTH:
        return None, ""
    begins = _("whose name begins with “%(name)s”")
    if "." not in text:
        condition = Q(type__startswith=type_) if text.endswith("*") else Q(type=type_)
        return condition, begins % {"name": type_ if text.endswith("*") else f"{type_}."}
    if not action:
        return Q(type=type_), begins % {"name": f"{type_}."}
    if text.endswith(("*", ".")):
        return Q(type=type_, action__startswith=action), begins % {"name": f"{type_}.{action}"}
    return Q(type=type_, action=action), _("named %(name)s") % {"name": text}


def _record(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    label, slash, key = term.value.partition("/")
    if slash and not key:
        raise NoMeaning(_("After “record:” write the model and its key: record:order/1042."))
    if slash:
        _check_model(term, label)
    found = find_records(viewer, term.value)
    return Meaning(condition=of_records(found), words=_owned_by(term.value, found), few=True)


def _owned_by(text: str, found: Keys) -> str:
    count = sum(map(len, found.values()))
    if count > 1:
        words = _("that belong to one of the %(count)d records found by “%(text)s”")
        if any(len(keys) >= MOST_RECORDS for keys in found.values()):
            words = _("that belong to one of the first %(count)d records found by “%(text)s”")
        return words % {"count": count, "text": text}
    label, slash, key = text.partition("/")
    name = f"{capfirst(label.rpartition('.')[2])} {key}" if slash else text
    return _("that belong to %(record)s") % {"record": name}


def _check_model(term: Term, label: str) -> None:
    """Raises NoMeaning when ``label`` names no model."""
    types = ContentType.objects.db_manager(Task.objects.db).all()
    labels = {f"{one.app_label}.{one.model}" for one in types}
    models = (one.model_class() for one in types)
    names = {one.partition(".")[2] for one in labels}
    names |= {str(model._meta.verbose_name).lower() for model in models if model}
    if label.lower() not in labels | names:
        near = nearest(label, names)
        key = term.value.partition("/")[2]
        text = _("There is no model “%(model)s”.") % {"model": label}
        raise NoMeaning(f"{text} {meant('record', near and f'{near}/{key}')}".strip())


def _created(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    try:
        wanted = span(term.value, now)
    except NoSpan as error:
        raise NoMeaning(str(error)) from None
    condition = Q()
    if wanted.since:
        condition &= Q(created_at__gte=wanted.since)
    if wanted.until:
        condition &= Q(created_at__lt=wanted.until)
    return Meaning(
        condition=condition,
        words=_("created %(when)s") % {"when": wanted.words},
        since=wanted.since,
        until=wanted.until,
    )


def _worker(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    host, _colon, pid = term.value.rpartition(":")
    condition = Q(host=term.value)
    if host and pid.isdecimal() and len(pid) < 10:
        condition |= Q(host=host, pid=int(pid))
    number = task_number(term.value)
    if number is not None:
        condition |= Q(pk=number)
    rows = Worker.objects.using(Task.objects.db)
    ids = list(rows.filter(condition).values_list("pk", flat=True)[:MOST_WORKERS])
    if not ids and number is None:
        hosts = rows.order_by("-started_at").values_list("host", flat=True)[:MOST_WORKERS]
        near = nearest(term.value, dict.fromkeys(hosts))
        text = _(
            "No worker “%(worker)s” is known. Name its host or host:pid; one that stopped long ago "
            "is forgotten."
        )
        raise NoMeaning(f"{text % {'worker': term.value}} {meant('worker', near)}".strip())
    return Meaning(
        condition=Q(worker_id__in=ids or [number]),
        words=_("last taken by the worker %(worker)s") % {"worker": term.value},
    )


def _incident(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    number = task_number(term.value)
    found = Incident.objects.using(Task.objects.db).filter(pk=number or 0).first()
    if found is None:
        text = _("There is no incident “%(value)s”: its number stands in its address.")
        raise NoMeaning(text % {"value": term.value})
    return Meaning(
        condition=Q(state=State.FAILED, fingerprint=found.fingerprint),
        head=str(HEADS["failed"]),
        words=_("of incident #%(number)s") % {"number": found.pk},
        in_order=True,
    )


def _id(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    numbers = [task_number(part) for part in term.value.split(",")]
    ids = [number for number in numbers if number is not None]
    if len(ids) != len(numbers) or len(ids) > MOST_IDS:
        text = _("After “id:” write the number of a task, or several with commas: id:12,15.")
        raise NoMeaning(text)
    shown = ", ".join(f"#{number}" for number in ids)
    text = ngettext("with the number %(ids)s", "with the numbers %(ids)s", len(ids))
    return Meaning(condition=Q(pk__in=ids), words=text % {"ids": shown}, few=True)


def _free(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    """As in the search box: a number, a record, a name, a title."""
    text = tidy(term.value)
    condition = Q(pk__in=[])
    number = task_number(text)
    if number is not None:
        condition |= Q(pk=number)
    names = list(_names(text))
    if registry.get(text) is None:
        condition |= record_condition(viewer, text)
    for named in names:
        condition |= named
    return Meaning(
        condition=condition, words=_("found by “%(text)s”") % {"text": text}, few=not names
    )


def _names(text: str) -> Iterable[Q]:
    if "." in text and "@" not in text:
        named, _words = _named(text)
        if named is not None:
            yield named
    for known in registry:
        if known.title and text.casefold() in known.title.casefold():
            type_, _dot, action = known.name.partition(".")
            yield Q(type=type_, action=action)


def _error(viewer: Viewer, term: Term, now: datetime) -> Meaning:
    return error_meaning(viewer, term)


_READERS: dict[str, Callable[[Viewer, Term, datetime], Meaning]] = {
    "": _free,
    "state": _state,
    "queue": _queue,
    "name": _name,
    "record": _record,
    "error": _error,
    "created": _created,
    "worker": _worker,
    "incident": _incident,
    "id": _id,
}


def _unknown(term: Term, near: str, known: Iterable[str]) -> str:
    values = {"value": term.value, "key": term.key, "known": ", ".join(known)}
    text = _("“%(value)s” cannot stand after “%(key)s:”, only %(known)s.") % values
    return f"{text} {meant(term.key, near)}".strip()
