"""Which row of which model a task belongs to."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import models, router
from django.db.models.signals import class_prepared

from tasks.exceptions import InvalidTask, RecordNotSaved

KEY_LENGTH = 64

#: Models that declare a TaskRelation, themselves or through an abstract parent, and its name.
declaring: dict[type[models.Model], str] = {}


def owner_model(model: type[models.Model]) -> type[models.Model]:
    """The model whose rows own the tasks of ``model``.

    A child or a proxy shares the tasks of the parent that declares the TaskRelation.
    """
    for parent in reversed(model.__mro__):
        if parent in declaring:
            return parent._meta.concrete_model or parent
    return model._meta.concrete_model or model


#: The record whose save calls rules now, and the alias it is saved on.
being_saved: ContextVar[tuple[models.Model, str] | None] = ContextVar(
    "aftersave_being_saved", default=None
)


def record_alias(record: models.Model) -> str:
    """The database alias on which tasks of ``record`` are written: where its row is.

    A record read from a replica belongs to the alias that the router names for writing.
    """
    saving = being_saved.get()
    if saving is not None and saving[0] is record:
        return saving[1]
    return router.db_for_write(type(record), instance=record)


def record_key(record: models.Model, using: str) -> tuple[ContentType, str]:
    """Content type (of ``using``) and key as text of ``record``.

    Raises RecordNotSaved without a primary key, InvalidTask for a key that does not fit.
    """
    owner = owner_model(type(record))
    pk = owner._meta.pk
    if pk is None or len(getattr(owner._meta, "pk_fields", [pk])) > 1:
        raise InvalidTask(f"{owner._meta.label} has a composite primary key; it cannot own tasks.")
    value = getattr(record, pk.attname)
    if value is None:
        raise RecordNotSaved(record)
    # As the database gives it back: a UUID may have been given as text without its dashes.
    key = str(pk.to_python(value))
    if len(key) > KEY_LENGTH:
        raise InvalidTask(
            f"The key of {owner._meta.label} has {len(key)} characters; tasks keep {KEY_LENGTH}."
        )
    return ContentType.objects.db_manager(using).get_for_model(owner), key


def for_each_descendant(
    model: type[models.Model],
    connect: Callable[[type[models.Model]], None],
    *,
    proxies_only: bool = False,
) -> None:
    """Call ``connect`` for ``model`` and all models below it, now and when they are declared.

    Signals name the exact class that was saved, so a receiver needs each of them. ``proxies_only``
    leaves out children with a table of their own.
    """

    def wanted(candidate: type[models.Model]) -> bool:
        if not issubclass(candidate, model) or candidate._meta.abstract:
            return False
        return not proxies_only or candidate is model or candidate._meta.proxy

    def prepared(sender: type[models.Model], **kwargs: Any) -> None:
        if wanted(sender):
            connect(sender)

    class_prepared.connect(prepared, weak=False)
    for candidate in _family(model):
        if wanted(candidate):
            connect(candidate)


def _family(model: type[models.Model]) -> list[type[models.Model]]:
    return [model, *(member for child in model.__subclasses__() for member in _family(child))]
