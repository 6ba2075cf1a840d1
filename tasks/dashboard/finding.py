"""What a text in the search box means: a task's number, records, keys that handlers declared.

Everything is looked up by key or by equality, or by the host's own search; never by a pattern
over what tasks carry.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from unicodedata import decimal

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from tasks.dashboard import probes
from tasks.dashboard.ids import read_id
from tasks.dashboard.records import admin_of, key_of, lies_here
from tasks.dashboard.viewer import Viewer
from tasks.handlers import registry
from tasks.models import SearchKey, Task
from tasks.models.figures import SEARCH_VALUE_LENGTH
from tasks.models.records import KEY_LENGTH, declaring, owner_model

MOST_RECORDS = 50
MOST_TASKS = 50
ROWS_AT_ONCE = 1000

#: Keys of records by the id of their content type, each list at most ``MOST_RECORDS`` long.
Keys = dict[int, list[str]]


def tidy(text: str) -> str:
    """What was typed, without what no database takes and without space around words."""
    return " ".join(text.replace("\x00", "").split())


def task_number(text: str) -> int | None:
    """``12`` of "12" or "#12", in the digits of any script as keys of records are; else None."""
    digits = "".join(str(decimal(sign, sign)) for sign in tidy(text).removeprefix("#"))
    return read_id(digits)


def task_meant(viewer: Viewer, text: str) -> Task | None:
    """The task that ``text`` names: "12", "#12", "Task #12", or "Send the mail #12" as on pages."""
    text = tidy(text)
    called, _mark, number = text.rpartition("#")
    number = number if called else _named_key(_type_of(Task), text) or number
    pk = task_number(number)
    if pk is None:
        return None
    task = viewer.tasks.filter(pk=pk).defer("data", "result").first()
    names = ("", "task", Task._meta.verbose_name, task.name, task.title) if task else ()
    return task if called.strip().casefold() in {str(name).casefold() for name in names} else None


def find_records(viewer: Viewer, text: str) -> Keys:
    """Records that ``text`` means ("Order 1042", "1042", "orders.order/1042", an e-mail).

    Found are records that the host's own admin page finds and shows to this person, and records
    of any model by key, when the person sees a task of theirs.
    """
    text = tidy(text)
    if not text.removeprefix("#"):
        return {}
    found = _with_tasks(viewer, text)
    for model in _models(viewer, text):
        keys = found.setdefault(_type_of(model).pk, [])
        terms = _terms(model, text)
        keys += known_keys(viewer, model, terms)
        for term in terms:
            keys += _searched(viewer, model, term)
    return {
        content_type: list(dict.fromkeys(keys))[:MOST_RECORDS]
        for content_type, keys in found.items()
        if keys
    }


def record_condition(viewer: Viewer, text: str) -> Q:
    """The tasks of the records that ``text`` means, as ``of_records``."""
    return of_records(find_records(viewer, text))


def of_records(found: Keys) -> Q:
    """The tasks of these records, as a condition on tasks; of none: nothing."""
    condition = Q(pk__in=[])
    for content_type, keys in found.items():
        condition |= Q(content_type=content_type, object_id__in=keys)
    return condition


def tasks_by_key(viewer: Viewer, text: str) -> list[Task]:
    """The newest tasks in which ``text`` stands under a key that their handler declared.

    None for a person who may not see data: what is found would tell what it says.
    """
    declared = {key for known in registry for key in known.search}
    value = tidy(text)
    if not viewer.sees_data or not declared or not value or len(value) > SEARCH_VALUE_LENGTH:
        return []
    rows = SearchKey.objects.filter(key__in=declared, value=value).order_by("-task_id")
    if viewer.is_scoped:
        # Or the newest would be others' tasks, and none of those that the person may see.
        rows = rows.filter(task__in=viewer.tasks.values("pk"))
    ids = list(dict.fromkeys(rows.values_list("task_id", flat=True)[: 2 * MOST_TASKS]))
    return list(viewer.tasks.filter(pk__in=ids).defer("data", "result").order_by("-pk"))


def searchable_models(viewer: Viewer) -> list[type[models.Model]]:
    """Models whose records are looked for, in the order of their names."""
    known = (model for model in _searchable(viewer) if may_view(viewer, model) is not False)
    return sorted(known, key=lambda model: str(model._meta.verbose_name))


def known_keys(viewer: Viewer, model: type[models.Model], keys: Iterable[str]) -> list[str]:
    """Those of ``keys`` whose records exist and may be known to this person, tasks or not."""
    wanted = [key for key in (key_of(model, text) for text in keys) if key is not None]
    if not wanted or not lies_here(model):
        return []
    registered = admin_of(viewer.site, model)
    if registered is not None:
        if not may_view(viewer, model):
            return []
        rows = registered.get_queryset(viewer.request)
    elif viewer.is_scoped or model not in _owners():
        return []
    else:
        rows = model._base_manager.all()
    return [str(key) for key in rows.filter(pk__in=wanted).values_list("pk", flat=True)]


def may_view(viewer: Viewer, model: type[models.Model]) -> bool | None:
    """What the host's admin says to this person about ``model``; None where it is not there."""
    registered = admin_of(viewer.site, model)
    if registered is None:
        return None
    return bool(registered.has_view_or_change_permission(viewer.request))


def _owners() -> set[type[models.Model]]:
    """Models that own tasks on the database that the pages show."""
    owners = {owner_model(model) for model in declaring if not model._meta.abstract}
    return {model for model in owners if lies_here(model)}


def _searchable(viewer: Viewer) -> set[type[models.Model]]:
    """Models that own tasks: those that declare it, and those on the site that have some."""
    owners = _owners()
    others: list[type[models.Model]] = []
    for model, registered in viewer.site._registry.items():
        owner = owner_model(model)
        is_new = owner not in owners and lies_here(owner)
        if is_new and registered.get_search_fields(viewer.request):
            others.append(owner)
    # In the order of the index, or PostgreSQL may read the table in the hope of finding one soon.
    rows = Task.objects.order_by("content_type_id", "object_id")
    types = ContentType.objects.db_manager(Task.objects.db).get_for_models(*owners, *others)
    found = probes.ids([rows.filter(content_type=types[model].pk)[:1] for model in others])
    return owners | {model for model, tasks in zip(others, found, strict=True) if tasks}


def _models(viewer: Viewer, text: str) -> set[type[models.Model]]:
    """Models that own tasks, and the one that "app.model/key" names."""
    found = _searchable(viewer)
    label = text.partition("/")[0]
    if "/" in text and label.count(".") == 1:
        with suppress(LookupError):
            found.add(owner_model(apps.get_model(label)))
    # A task is found as what it is, see ``task_meant``.
    return {model for model in found - {Task} if lies_here(model)}


def _type_of(model: type[models.Model]) -> ContentType:
    return ContentType.objects.db_manager(Task.objects.db).get_for_model(model)


def _with_tasks(viewer: Viewer, text: str) -> Keys:
    """Records of any model, gone ones included, whose key is named and who have visible tasks."""
    types = list(ContentType.objects.db_manager(Task.objects.db).all())
    plain = text.removeprefix("#")
    found: Keys = defaultdict(list)
    for owner in _types_with(viewer, plain, {one.pk for one in types}):
        found[owner].append(plain)
    named = [(one.pk, key) for one in types if _is_key(key := _named_key(one, text))]
    # Apart: joined by OR, PostgreSQL goes along the whole index where a record has many tasks.
    rows = viewer.tasks.order_by("content_type_id", "object_id")
    questions = [rows.filter(content_type=owner, object_id=key)[:1] for owner, key in named]
    for (owner, key), tasks in zip(named, probes.ids(questions), strict=True):
        if tasks:
            found[owner].append(key)
    return found


def _types_with(viewer: Viewer, key: str, types: set[int]) -> set[int]:
    """Those of ``types`` of which a record with this key has visible tasks."""
    found: set[int] = set()
    are_more = _is_key(key)
    while are_more:
        rows = viewer.tasks.filter(content_type__in=types - found, object_id=key).order_by()
        owners = list(rows.values_list("content_type_id", flat=True)[:ROWS_AT_ONCE])
        found |= {int(owner or 0) for owner in owners}
        # Of one record alone: it must not hide those of other models.
        are_more = len(owners) == ROWS_AT_ONCE
    return found


def _is_key(text: str) -> bool:
    return 0 < len(text) <= KEY_LENGTH


def _terms(model: type[models.Model], text: str) -> list[str]:
    """What to look for among the records: what follows the model's name in the text, or all."""
    named = _named_key(_type_of(model), text)
    terms = [named] if named else [text, text.removeprefix("#")]
    return list(dict.fromkeys(term for term in terms if term))


def _named_key(content_type: ContentType, text: str) -> str:
    """``1042`` of "Order 1042", "order/1042" or "orders.order/1042", else nothing."""
    label = f"{content_type.app_label}.{content_type.model}"
    model = content_type.model_class()
    names = {content_type.model, label}
    if model is not None:
        names |= {str(model._meta.verbose_name), str(model._meta.label_lower)}
    for name in sorted(names):
        start = text[: len(name)].casefold()
        if start == name.casefold() and text[len(name) : len(name) + 1] in (" ", "/"):
            return text[len(name) + 1 :].strip().removeprefix("#")
    return ""


def _searched(viewer: Viewer, model: type[models.Model], term: str) -> list[str]:
    """Keys of records that the model's own admin page finds for ``term``."""
    registered: Any = admin_of(viewer.site, model)
    if registered is None or not may_view(viewer, model):
        return []
    if not registered.get_search_fields(viewer.request):
        return []
    rows = registered.get_queryset(viewer.request)
    try:
        rows, may_repeat = registered.get_search_results(viewer.request, rows, term)
        keys = rows.values_list("pk", flat=True)
        return [str(key) for key in (keys.distinct() if may_repeat else keys)[:MOST_RECORDS]]
    except (ArithmeticError, TypeError, ValueError, ValidationError):
        # It searches numbers or dates, and this is none: other models may still have it.
        return []
