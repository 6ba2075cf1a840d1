"""What the search box over the list of tasks understands.

A task's id, a name (``email.order_confirmation``, or ``email.`` for all of that type), a handler's
title, a record's key ("1042"), "Order 1042", and what the record's own admin page searches for.
Everything is looked up by key or by equality, never by a pattern over data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks.admin.records import admin_of
from tasks.handlers import registry
from tasks.models import Task
from tasks.models.records import declaring

MOST_RECORDS = 50
MOST_TASKS = 1000
_BIGGEST_ID = 2**63 - 1


def search_tasks(
    request: HttpRequest, site: AdminSite, queryset: QuerySet[Task], text: str
) -> QuerySet[Task]:
    """``queryset`` narrowed to the tasks that ``text`` means; none when it means nothing."""
    text = " ".join(text.replace("\x00", "").split())
    if not text:
        return queryset
    number = text.removeprefix("#")
    condition = Q(pk__in=_of_records(request, site, queryset, text))
    if number.isascii() and number.isdecimal() and int(number) <= _BIGGEST_ID:
        condition |= Q(pk=int(number))
    for named in _names(text):
        condition |= named
    return queryset.filter(condition)


def _names(text: str) -> Iterator[Q]:
    if " " not in text and "@" not in text:
        type_, _dot, action = text.removesuffix("*").partition(".")
        if not action:
            yield Q(type=type_)
        elif text.endswith("*") or action.endswith("."):
            yield Q(type=type_, action__startswith=action)
        else:
            yield Q(type=type_, action=action)
    for known in registry:
        if known.title and text.casefold() in known.title.casefold():
            type_, _dot, action = known.name.partition(".")
            yield Q(type=type_, action=action)


def _of_records(
    request: HttpRequest, site: AdminSite, queryset: QuerySet[Task], text: str
) -> set[int]:
    """Ids of tasks whose record ``text`` means, the newest of each way to find it."""
    if registry.get(text) is not None:
        return set()
    types = ContentType.objects.db_manager(queryset.db)
    found = _tasks_of(queryset, types.values_list("pk", flat=True), [text.removeprefix("#")])
    for model in _models(text):
        keys = {
            key for term in _terms(model, text) for key in _searched(request, site, model, term)
        }
        named = _named_key(model, text)
        if named:
            keys.add(named)
        if keys:
            found |= _tasks_of(queryset, [types.get_for_model(model).pk], keys)
    return found


def _models(text: str) -> set[type[models.Model]]:
    """Models that own tasks, and the one that "app.model/key" names."""
    found = {model for model in declaring if not model._meta.abstract}
    label = text.partition("/")[0]
    if "/" in text and label.count(".") == 1:
        with suppress(LookupError):
            found.add(apps.get_model(label))
    return found


def _tasks_of(queryset: QuerySet[Task], types: Iterable[int], keys: Iterable[str]) -> set[int]:
    rows = queryset.filter(content_type__in=list(types), object_id__in=list(keys))
    return set(rows.order_by("-pk").values_list("pk", flat=True)[:MOST_TASKS])


def _terms(model: type[models.Model], text: str) -> set[str]:
    """What to look for among the records: the text, and what follows the model's name in it."""
    return {term for term in (text, _named_key(model, text)) if term}


def _named_key(model: type[models.Model], text: str) -> str:
    """``1042`` of "Order 1042" or "orders.order/1042", else nothing."""
    options = model._meta
    names = (str(options.verbose_name), str(options.model_name), options.label_lower)
    for name in names:
        start = text[: len(name)].casefold()
        if start == name.casefold() and text[len(name) : len(name) + 1] in (" ", "/"):
            return text[len(name) + 1 :].strip().removeprefix("#")
    return ""


def _searched(
    request: HttpRequest, site: AdminSite, model: type[models.Model], term: str
) -> list[str]:
    """Keys of records that the model's own admin page finds for ``term``."""
    registered: Any = admin_of(site, model)
    if registered is None or not registered.has_view_or_change_permission(request):
        return []
    if not registered.get_search_fields(request):
        return []
    rows = registered.get_queryset(request)
    rows, may_repeat = registered.get_search_results(request, rows, term)
    keys = rows.values_list("pk", flat=True)
    return [str(key) for key in (keys.distinct() if may_repeat else keys)[:MOST_RECORDS]]
