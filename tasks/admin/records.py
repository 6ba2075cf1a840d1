"""The records that tasks belong to, loaded once per model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _

from tasks.models import Task

LONGEST_TITLE = 100


@dataclass(frozen=True)
class ShownRecord:
    """A record as a link, or as text where there is no page or no right to see it."""

    text: str
    url: str = ""

    def __str__(self) -> str:
        return format_html('<a href="{}">{}</a>', self.url, self.text) if self.url else self.text

    def __html__(self) -> str:
        return format_html("{}", self.text) if not self.url else str(self)


def shown_records(
    request: HttpRequest, site: AdminSite, tasks: Iterable[Task]
) -> dict[int, ShownRecord]:
    """The record of each task that has one, by task id; one query per model."""
    by_model: dict[int, list[Task]] = defaultdict(list)
    for task in tasks:
        if task.content_type_id is not None:
            by_model[task.content_type_id].append(task)
    shown: dict[int, ShownRecord] = {}
    for content_type_id, owned in by_model.items():
        shown |= _Records(request, site, content_type_id, owned).shown()
    return shown


def admin_of(site: AdminSite, model: type[models.Model]) -> ModelAdmin[Any] | None:
    """How ``model`` is registered in ``site``, or None."""
    return site.get_model_admin(model) if site.is_registered(model) else None


def key_of(model: type[models.Model], text: str) -> Any:
    """The key that is stored as ``text``, or None when it is none of this model."""
    try:
        return _pk(model).to_python(text)
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None


class _Records:
    """The records of one model that ``tasks`` belong to."""

    def __init__(
        self, request: HttpRequest, site: AdminSite, content_type_id: int, tasks: list[Task]
    ) -> None:
        self.request = request
        self.site = site
        self.tasks = tasks
        self.using = tasks[0]._state.db
        self.content_type = self._content_type(content_type_id)
        self.model = self.content_type.model_class() if self.content_type else None

    def shown(self) -> dict[int, ShownRecord]:
        found = self._load()
        return {task.pk: self._show(task, found) for task in self.tasks}

    def _content_type(self, content_type_id: int) -> ContentType | None:
        try:
            return ContentType.objects.db_manager(self.using).get_for_id(content_type_id)
        except ContentType.DoesNotExist:
            return None

    def _load(self) -> dict[Any, models.Model]:
        if self.model is None:
            return {}
        keys = {key_of(self.model, str(task.object_id)) for task in self.tasks} - {None}
        rows = self.model._base_manager.using(self.using).filter(pk__in=keys)
        attname = _pk(self.model).attname
        return {getattr(row, attname): row for row in self._with_related(rows)}

    def _with_related(self, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        related = self._admin.list_select_related if self._admin else False
        if related is True:
            return rows.select_related()
        return rows.select_related(*related) if related else rows

    def _show(self, task: Task, found: dict[Any, models.Model]) -> ShownRecord:
        name = f"{self._noun} {task.object_id}"
        record = found.get(key_of(self.model, str(task.object_id))) if self.model else None
        if record is None:
            return ShownRecord(_("%(record)s (deleted)") % {"record": name})
        return ShownRecord(_title(record) or name, self._url(record))

    @property
    def _noun(self) -> str:
        if self.model is not None:
            return capfirst(str(self.model._meta.verbose_name))
        return capfirst(self.content_type.model) if self.content_type else _("Record")

    @cached_property
    def _admin(self) -> ModelAdmin[Any] | None:
        return admin_of(self.site, self.model) if self.model else None

    @cached_property
    def _may_view(self) -> bool:
        return self._admin is not None and self._admin.has_view_or_change_permission(self.request)

    def _url(self, record: models.Model) -> str:
        if not self._may_view:
            return ""
        options = record._meta
        name = f"admin:{options.app_label}_{options.model_name}_change"
        try:
            return reverse(name, args=[quote(record.pk)], current_app=self.site.name)
        except NoReverseMatch:
            return ""


def _pk(model: type[models.Model]) -> Any:
    return model._meta.pk


def _title(record: models.Model) -> str:
    try:
        return Truncator(str(record)).chars(LONGEST_TITLE)
    except Exception:
        # Whatever the host's __str__ stumbles over, its tasks must stay visible.
        return ""
