"""The records that tasks belong to, loaded once per model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.db import models, router
from django.urls import NoReverseMatch, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import Truncator, capfirst
from django.utils.translation import gettext as _

from tasks.dashboard.viewer import Viewer
from tasks.models import Task
from tasks.text import is_storable

LONGEST_TITLE = 100


@dataclass(frozen=True)
class ShownRecord:
    """A record for people. ``story_url``: the page with all its tasks; ``url``: its own page in
    the host's admin, empty where there is none or no right to see it.
    """

    text: str
    story_url: str = ""
    url: str = ""
    is_gone: bool = False

    def __str__(self) -> str:
        """For templates: a link to the story where there is one."""
        if not self.story_url:
            return self.text
        return format_html('<a href="{}">{}</a>', self.story_url, self.text)


def shown_records(viewer: Viewer, tasks: Iterable[Task]) -> dict[int, ShownRecord]:
    """The record of each task that has one, by task id; one query per model."""
    by_model: dict[int, list[Task]] = defaultdict(list)
    for task in tasks:
        if task.content_type_id is not None:
            by_model[task.content_type_id].append(task)
    shown: dict[int, ShownRecord] = {}
    for content_type_id, owned in by_model.items():
        known = shown_keys(viewer, content_type_id, {str(task.object_id) for task in owned})
        shown |= {task.pk: known[str(task.object_id)] for task in owned}
    return shown


def shown_keys(
    viewer: Viewer, content_type_id: int, keys: Collection[str]
) -> dict[str, ShownRecord]:
    """The records of one model with these keys, deleted ones too; one query."""
    return _Records(viewer, content_type_id, keys).shown()


def admin_of(site: AdminSite, model: type[models.Model]) -> ModelAdmin[Any] | None:
    """How ``model`` is registered in ``site``, or None."""
    return site.get_model_admin(model) if site.is_registered(model) else None


def lies_here(model: type[models.Model]) -> bool:
    """Whether records of ``model`` lie on the database that the pages show.

    Asked is where they are written: reads may go to replicas, to another one each time.
    """
    return bool(router.db_for_write(model) == router.db_for_write(Task))


def key_of(model: type[models.Model], text: str) -> Any:
    """The key that is stored as ``text``, or None when it is none of this model."""
    field = key_field(model)
    if not is_storable(text):
        return None
    try:
        key = field.to_python(text)
        # A number beyond what the column holds is an error of the database, not an empty answer.
        field.run_validators(key)
    except (ValidationError, ValueError, TypeError, OverflowError):
        return None
    return key


def key_field(model: type[models.Model]) -> Any:
    """What says which values a key has: of a key that refers to another row, that row's key."""
    field = _pk(model)
    while field.remote_field:
        field = field.remote_field.get_related_field()
    return field


def record_url(viewer: Viewer, content_type: ContentType, key: str) -> str:
    """The address of the page with all tasks of a record; empty for a key no address can hold."""
    kwargs = {"app": content_type.app_label, "model": content_type.model, "key": key}
    return _reversed(viewer, "tasks_task_record", kwargs=kwargs)


class _Records:
    """The records of one model with these keys."""

    def __init__(self, viewer: Viewer, content_type_id: int, keys: Collection[str]) -> None:
        self.viewer = viewer
        self.keys = keys
        self.using = Task.objects.db
        self.content_type = self._content_type(content_type_id)
        self.model = self.content_type.model_class() if self.content_type else None

    def shown(self) -> dict[str, ShownRecord]:
        found = self._load()
        return {key: self._show(key, found) for key in self.keys}

    def _content_type(self, content_type_id: int) -> ContentType | None:
        try:
            return ContentType.objects.db_manager(self.using).get_for_id(content_type_id)
        except ContentType.DoesNotExist:
            return None

    def _load(self) -> dict[Any, models.Model]:
        if self.model is None or not lies_here(self.model):
            return {}
        wanted = {key_of(self.model, key) for key in self.keys} - {None}
        rows = self.model._base_manager.using(self.using).filter(pk__in=wanted).order_by()
        attname = _pk(self.model).attname
        return {getattr(row, attname): row for row in self._with_related(rows)}

    def _with_related(self, rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
        registered = self._admin
        related = registered and registered.get_list_select_related(self.viewer.request)
        if related is True:
            return rows.select_related()
        return rows.select_related(*related) if related else rows

    def _show(self, key: str, found: dict[Any, models.Model]) -> ShownRecord:
        name = f"{self._noun} {key}"
        url = record_url(self.viewer, self.content_type, key) if self.content_type else ""
        record = found.get(key_of(self.model, key)) if self.model else None
        if record is None and self.model and not lies_here(self.model):
            return ShownRecord(name, url)
        if record is None:
            return ShownRecord(_("%(record)s (deleted)") % {"record": name}, url, is_gone=True)
        return ShownRecord(_title(record) or name, url, self._admin_url(record))

    @property
    def _noun(self) -> str:
        if self.model is not None:
            return capfirst(str(self.model._meta.verbose_name))
        return capfirst(self.content_type.model) if self.content_type else _("Record")

    @cached_property
    def _admin(self) -> ModelAdmin[Any] | None:
        return admin_of(self.viewer.site, self.model) if self.model else None

    @cached_property
    def _may_view(self) -> bool:
        registered = self._admin
        return registered is not None and registered.has_view_or_change_permission(
            self.viewer.request
        )

    def _admin_url(self, record: models.Model) -> str:
        if not self._may_view:
            return ""
        name = f"{record._meta.app_label}_{record._meta.model_name}_change"
        return _reversed(self.viewer, name, args=[quote(record.pk)])


def _reversed(viewer: Viewer, name: str, **arguments: Any) -> str:
    try:
        return reverse(f"admin:{name}", current_app=viewer.site.name, **arguments)
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
