"""Who looks: which tasks they see, what they may do, and what makes two viewers equal."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

from django.contrib.admin import AdminSite
from django.core.exceptions import EmptyResultSet
from django.http import HttpRequest
from django.urls import get_script_prefix
from django.utils.module_loading import import_string
from django.utils.translation import get_language

from tasks.conf import aftersave_settings
from tasks.models import Incident, Queue, Task, TaskQuerySet


class Viewer:
    """A signed-in person on an admin site. Never kept between two requests or updates.

    ``request`` is the one that asked, or one made up for a socket: only its ``user`` is read, by
    the host's own ``has_..._permission`` and ``get_queryset``.
    """

    def __init__(self, request: HttpRequest, site: AdminSite) -> None:
        self.request = request
        self.site = site
        self.user: Any = request.user

    def has(self, right: str) -> bool:
        """Whether the person has the permission ``tasks.<right>`` ("retry_task")."""
        return bool(self.user.has_perm(f"tasks.{right}"))

    @property
    def may_enter(self) -> bool:
        """Whether the pages are open to the person at all."""
        return self.has("view_task")

    @property
    def sees_data(self) -> bool:
        """Whether data, results, logs and tracebacks are shown."""
        return self.has("view_task_data")

    @property
    def tasks(self) -> TaskQuerySet:
        """The tasks the person may know of: AFTERSAVE["VISIBLE_TASKS"]."""
        narrow = _hook("VISIBLE_TASKS")
        return cast("TaskQuerySet", narrow(self.user, Task.objects.all()) if narrow else _all())

    @property
    def is_scoped(self) -> bool:
        """Whether the person sees only a part, so that figures over all tasks are not for them."""
        return self.scope != "all"

    def may(self, action: str, task: Task) -> bool:
        """Whether the person may do ``action`` ("retry") to this task.

        Needs ``<action>_task`` (see ``RIGHTS``) and the consent of AFTERSAVE["MAY"].
        """
        if not (self.may_enter and self.has(RIGHTS[action])):
            return False
        consent = _hook("MAY")
        return consent is None or bool(consent(self.user, action, task))

    @cached_property
    def scope(self) -> str:
        """Equal for people who see the same tasks."""
        narrow = _hook("VISIBLE_TASKS")
        if narrow is None:
            return "all"
        try:
            narrowed, everything = (_statement(q) for q in (self.tasks, _all()))
        except EmptyResultSet:
            return "none"
        return "all" if narrowed == everything else narrowed

    @cached_property
    def likeness(self) -> tuple[Any, ...]:
        """Viewers with equal likeness are shown the same, so one rendering serves them all."""
        return (
            self.site.name,
            get_script_prefix(),
            get_language(),
            # One by one: a backend may grant what it does not list.
            tuple(self.has(right) for right in _OURS),
            frozenset(self.user.get_all_permissions()),
            self.scope,
            self.user.pk if _hook("MAY") else None,
            self._open_models,
        )

    @cached_property
    def _open_models(self) -> Any:
        """Which models the host's own pages show; whoever they are asked for if that is unclear."""
        try:
            return frozenset(
                model._meta.label
                for model, admin in self.site._registry.items()
                if admin.has_view_or_change_permission(self.request)
            )
        # The host's own code, which may need more of a request than this one has.
        except Exception:
            return self.user.pk


#: Which permission each action needs besides ``view_task``.
RIGHTS = {
    "retry": "retry_task",
    "run_again": "retry_task",
    "change_data": "change_task_data",
    "restore": "change_task_data",
    "run_now": "run_task_now",
    "cancel": "cancel_task",
    "complete": "complete_task",
}


#: Every permission of these pages.
_OURS = tuple(
    codename
    for model in (Task, Queue, Incident)
    for codename in (
        *(f"{name}_{model._meta.model_name}" for name in model._meta.default_permissions),
        *(codename for codename, _label in model._meta.permissions),
    )
)


def _statement(tasks: TaskQuerySet) -> str:
    # Not str(): that puts values in without quotes, so that two filters may read the same.
    return repr(tasks.query.get_compiler(tasks.db).as_sql())


def _all() -> TaskQuerySet:
    return Task.objects.all()


def _hook(name: str) -> Callable[..., Any] | None:
    value = getattr(aftersave_settings, name)
    found: Callable[..., Any] | None = import_string(value) if isinstance(value, str) else value
    return found
