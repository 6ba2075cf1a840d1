"""``TaskRelation``: what a host model declares so that its records own tasks."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NoReturn, Self, overload

from django.db import models, router, transaction
from django.db.models.signals import class_prepared, post_delete

from tasks.exceptions import InvalidTask
from tasks.models.addresses import record_address
from tasks.models.queryset import TaskQuerySet
from tasks.models.records import declaring, for_each_descendant, record_alias
from tasks.models.states import State
from tasks.models.task import Task

if TYPE_CHECKING:
    _Manager = models.Manager[Task]
else:
    _Manager = models.Manager


class RecordTasks(_Manager.from_queryset(TaskQuerySet)):  # type: ignore[misc]
    """The tasks of one record; created with it, on its database."""

    def __init__(self, record: models.Model) -> None:
        super().__init__()
        self.model = Task
        self.record = record
        self._db = record_alias(record)

    def get_queryset(self) -> TaskQuerySet:
        return TaskQuerySet(Task, using=self._db).of(self.record)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise InvalidTask("Tasks are created by .enqueue(name, data), or .build() and a rule.")

    create = get_or_create = update_or_create = bulk_create = _refuse

    def build(self, name: str, data: dict[str, Any] | None = None, **options: Any) -> Task:
        """An unsaved task of this record, for a rule to yield; options as in ``enqueue``."""
        from tasks.enqueueing import build

        return build(name, data, record=self.record, **options)

    def enqueue(self, name: str, data: dict[str, Any] | None = None, **options: Any) -> Task:
        """Create a task of this record; options as in ``enqueue``."""
        from tasks.enqueueing import enqueue

        return enqueue(name, data, record=self.record, **options)

    def admin_url(self, site_name: str = "admin") -> str:
        """The address of the record's page in the dashboard, for host pages and mails.

        Absolute when AFTERSAVE["BASE_URL"] is set, else a path. ``site_name`` names the admin
        site. Raises NoReverseMatch where no admin site has the pages.
        """
        return record_address(self.record, self._db, site_name)


class TaskRelation:
    """Declares that records of a model own tasks: ``tasks = TaskRelation()``.

    On the class it answers itself, on a record a manager of its tasks. The model's save becomes
    atomic. ``delete_with_record``: deleting the record erases its tasks and all their history,
    instead of cancelling what had not run.
    """

    name: str
    model: type[models.Model]

    def __init__(self, *, delete_with_record: bool = False) -> None:
        self.delete_with_record = delete_with_record

    def contribute_to_class(self, model: type[models.Model], name: str) -> None:
        """Called by Django for the declaring class, before its columns are complete."""
        self.name = name
        self.model = model
        setattr(model, name, self)
        if model._meta.abstract:
            class_prepared.connect(self._child_prepared, weak=False)
        else:
            self._adopt(model)

    def _child_prepared(self, sender: type[models.Model], **kwargs: Any) -> None:
        adopted = any(parent in declaring for parent in sender.__mro__)
        if issubclass(sender, self.model) and not adopted:
            self._adopt(sender)

    def _adopt(self, model: type[models.Model]) -> None:
        declaring[model] = self.name
        make_save_atomic(model)
        # Not for children: deleting one with keep_parents=True leaves the record there, and
        # otherwise Django sends the parent's signal too.
        for_each_descendant(model, self._connect, proxies_only=True)

    def _connect(self, model: type[models.Model]) -> None:
        receiver = self._erase if self.delete_with_record else self._withdraw
        post_delete.connect(receiver, sender=model, dispatch_uid="aftersave.relation")

    @staticmethod
    def _withdraw(instance: models.Model, using: str, **kwargs: Any) -> None:
        from tasks.settle import cancel_tasks_of

        cancel_tasks_of(instance, using=using)

    @staticmethod
    def _erase(instance: models.Model, using: str, **kwargs: Any) -> None:
        from tasks.settle import cancel_tasks_of

        # Also what runs or failed: tasks of others may wait for it, and would for ever.
        unfinished = tuple(
            state for state in State if state not in (State.COMPLETED, State.CANCELLED)
        )
        cancel_tasks_of(instance, using=using, states=unfinished)
        own = Task.objects.using(using).of(instance)
        # Also what has ended: staff could retry it meanwhile, with an event that would be left.
        list(own.locked().values_list("pk", flat=True))
        own.delete()

    @overload
    def __get__(self, record: None, model: type[models.Model]) -> Self: ...

    @overload
    def __get__(self, record: models.Model, model: type[models.Model]) -> RecordTasks: ...

    def __get__(self, record: models.Model | None, model: type[models.Model]) -> Self | RecordTasks:
        return self if record is None else RecordTasks(record)


def make_save_atomic(model: type[models.Model]) -> None:
    """Wrap ``model``'s save in a transaction, so that its rules fail and commit with it."""
    original = model.save_base
    if getattr(original, "aftersave_atomic", False):
        return

    @functools.wraps(original)
    def save_base(self: models.Model, *args: Any, **kwargs: Any) -> None:
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        kwargs["using"] = using
        with transaction.atomic(using=using, savepoint=False):
            original(self, *args, **kwargs)

    save_base.aftersave_atomic = True  # type: ignore[attr-defined]
    model.save_base = save_base  # type: ignore[method-assign]
