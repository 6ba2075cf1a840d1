"""Rules: which tasks to create when a record is saved or a named event is emitted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from django.core.exceptions import FieldDoesNotExist
from django.db import connections, models, router, transaction
from django.db.models.signals import post_save, pre_save

from tasks.enqueueing import enqueue_many
from tasks.exceptions import InvalidHandler
from tasks.models import Task
from tasks.models.records import being_saved, for_each_descendant, record_alias
from tasks.models.relation import make_save_atomic

Rule = TypeVar("Rule", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class _SaveRule:
    function: Callable[..., Any]
    on: str  # "create", "save" or "change"
    fields: tuple[str, ...] = ()


_save_rules: dict[type[models.Model], list[_SaveRule]] = defaultdict(list)
_event_rules: dict[str, list[Callable[..., Any]]] = defaultdict(list)
_silent: ContextVar[bool] = ContextVar("aftersave_silent", default=False)


def on_create(model: type[models.Model]) -> Callable[[Rule], Rule]:
    """Call the rule with each new record of ``model``, its proxies and children.

    The rule yields (or returns) tasks made by ``record.tasks.build``; they are written in the
    save's own transaction, and what the rule raises undoes the save. Fixtures,
    ``QuerySet.update`` and ``bulk_create`` call no rule.
    """
    return _register(model, "create", ())


def on_save(
    model: type[models.Model], *, fields: Sequence[str] | None = None
) -> Callable[[Rule], Rule]:
    """Call the rule with each saved record of ``model``, as ``on_create`` does.

    Without ``fields`` at every save, also the first. With ``fields`` when the stored value of one
    of them differs before and after the save of a record that existed; the row is locked while
    it is compared, so two saves of the same change fire once. Raises InvalidHandler for unknown
    fields.
    """
    if fields is None:
        return _register(model, "save", ())
    if isinstance(fields, str) or not fields:
        raise InvalidHandler(f"on_save({model.__name__}, fields={fields!r}): give a list of names.")
    return _register(model, "change", tuple(_column(model, name) for name in fields))


def _column(model: type[models.Model], name: str) -> str:
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        field = None
    if not getattr(field, "concrete", False) or getattr(field, "many_to_many", False):
        raise InvalidHandler(
            f"on_save({model.__name__}, fields=[...]): {name!r} is not a stored field of it."
        )
    return str(field.attname)  # type: ignore[union-attr]


def _register(
    model: type[models.Model], on: str, fields: tuple[str, ...]
) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _connect(model)
        _save_rules[model].append(_SaveRule(rule, on, fields))
        return rule

    return register


def on_event(name: str) -> Callable[[Rule], Rule]:
    """Call the rule with ``(record, **payload)`` when ``emit(name, record, ...)`` is called."""

    def register(rule: Rule) -> Rule:
        _event_rules[name].append(rule)
        return rule

    return register


def emit(
    name: str, record: models.Model | None = None, /, *, using: str | None = None, **payload: Any
) -> list[Task]:
    """Call the rules of event ``name`` and create what they yield, in one transaction.

    Returns the created tasks; an event without rules creates none.
    """
    rules = _event_rules.get(name, ())
    if _silent.get() or not rules:
        return []
    alias = using or (router.db_for_write(Task) if record is None else record_alias(record))
    with transaction.atomic(using=alias):
        return enqueue_many(_built_by(rules, record, payload))


@contextmanager
def without_rules() -> Iterator[None]:
    """Inside, saves and events create no tasks (for imports, fixtures and tests)."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def _connect(model: type[models.Model]) -> None:
    if model not in _save_rules:
        make_save_atomic(model)
        for_each_descendant(model, _connect_exactly)


def _connect_exactly(model: type[models.Model]) -> None:
    pre_save.connect(_before, sender=model, dispatch_uid="aftersave.before")
    post_save.connect(_after, sender=model, dispatch_uid="aftersave.after")


def _rules_of(model: type[models.Model]) -> list[_SaveRule]:
    return [rule for parent in reversed(model.__mro__) for rule in _save_rules.get(parent, ())]


def _watched(sender: type[models.Model], update_fields: Iterable[str] | None) -> list[str]:
    """Columns that rules compare and this save may write."""
    columns = {name for rule in _rules_of(sender) for name in rule.fields}
    if update_fields is None:
        return sorted(columns)
    written = {_column(sender, name) for name in update_fields}
    return sorted(columns & written)


def _before(
    sender: type[models.Model],
    instance: models.Model,
    raw: bool,
    using: str,
    update_fields: Iterable[str] | None,
    **kwargs: Any,
) -> None:
    instance.__dict__.pop("_aftersave_before", None)
    if raw or _silent.get() or instance.pk is None:
        return
    columns = _watched(sender, update_fields)
    if columns:
        stored = _stored(sender, instance, using, columns, lock=True)
        instance.__dict__["_aftersave_before"] = stored


def _stored(
    sender: type[models.Model],
    instance: models.Model,
    using: str,
    columns: Iterable[str],
    *,
    lock: bool = False,
) -> dict[str, Any] | None:
    rows = sender._base_manager.using(using).filter(pk=instance.pk)
    features = connections[using].features
    if lock and features.has_select_for_update:
        # No stronger than the UPDATE to come: rows that refer to this one are inserted meanwhile.
        rows = rows.select_for_update(no_key=features.has_select_for_no_key_update)
    return rows.values(*columns).first()


def _after(
    sender: type[models.Model],
    instance: models.Model,
    created: bool,
    raw: bool,
    using: str,
    **kw: Any,
) -> None:
    before = instance.__dict__.pop("_aftersave_before", None)
    if raw or _silent.get():
        return
    changed = _changed(sender, instance, using, before) if before and not created else set()
    fired = [
        rule.function
        for rule in _rules_of(sender)
        if rule.on == "save"
        or (rule.on == "create" and created)
        or not changed.isdisjoint(rule.fields)
    ]
    if fired:
        token = being_saved.set((instance, using))
        try:
            enqueue_many(_built_by(fired, instance, {}))
        finally:
            being_saved.reset(token)


def _changed(
    sender: type[models.Model], instance: models.Model, using: str, before: dict[str, Any]
) -> set[str]:
    """Columns whose stored value is another one now; reads back what seems to differ."""

    def seems_changed(column: str) -> bool:
        value = getattr(instance, column)
        return hasattr(value, "resolve_expression") or bool(value != before[column])

    suspects = [column for column in before if seems_changed(column)]
    if not suspects:
        return set()
    after = _stored(sender, instance, using, suspects) or {}
    return {column for column in suspects if after.get(column) != before[column]}


def _built_by(
    rules: Iterable[Callable[..., Any]], record: models.Model | None, payload: dict[str, Any]
) -> list[Task]:
    tasks: list[Task] = []
    for rule in rules:
        path = f"{rule.__module__}.{rule.__qualname__}"
        for task in _yielded(path, rule(record, **payload)):
            if not isinstance(task, Task):
                raise InvalidHandler(
                    f"Rule {path} yielded {task!r}: yield tasks made by "
                    "record.tasks.build(...) or tasks.build(...)."
                )
            if task.pk is None:
                task.context.setdefault("rule", path)
                tasks.append(task)
    return tasks


def _yielded(path: str, answer: Any) -> Iterable[Any]:
    if answer is None:
        return ()
    if isinstance(answer, Task):
        return (answer,)
    if not isinstance(answer, Iterable):
        raise InvalidHandler(f"Rule {path} returned {answer!r}: yield or return tasks.")
    return answer
