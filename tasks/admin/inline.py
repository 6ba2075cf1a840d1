"""The newest tasks of a record on its own admin page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.checks import InlineModelAdminChecks
from django.contrib.admin.options import InlineModelAdmin
from django.core.checks import CheckMessage
from django.db import models, router
from django.forms.utils import ErrorList
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from tasks.dashboard.display import attempts_text, state_html, when_html
from tasks.dashboard.page import page_url
from tasks.dashboard.records import record_url
from tasks.dashboard.viewer import Viewer
from tasks.exceptions import InvalidTask
from tasks.models import Task
from tasks.models.records import record_key
from tasks.redact import redact_text

NEWEST = 20

if TYPE_CHECKING:
    _Inline = InlineModelAdmin[Task, models.Model]
    _FormSet = forms.BaseModelFormSet[Task, forms.ModelForm[Task]]
else:
    _Inline = InlineModelAdmin
    _FormSet = forms.BaseModelFormSet


@dataclass(frozen=True)
class InlineRow:
    """One task as the inline shows it; ``url`` is empty where there is no page for it."""

    task: Task
    url: str
    state: SafeString
    attempts: str
    when: SafeString
    reason: str


@dataclass(frozen=True)
class InlineTable:
    """What the inline shows; ``is_new`` before the record is saved."""

    rows: list[InlineRow]
    are_more: bool = False
    all_url: str = ""
    is_new: bool = False


class ShownTasks(_FormSet):
    """A formset without forms: it shows the record's tasks and has nothing to send or save."""

    model = Task

    def __init__(
        self, *args: Any, instance: models.Model | None = None, prefix: str | None = None, **kw: Any
    ) -> None:
        # What the host's form sent is not for us: without data there is nothing to refuse.
        super().__init__(prefix=prefix, queryset=Task.objects.none())
        self.instance = instance
        self.new_objects: list[Task] = []
        self.changed_objects: list[Any] = []
        self.deleted_objects: list[Task] = []

    @classmethod
    def get_default_prefix(cls) -> str:
        return "aftersave-tasks"

    def is_valid(self) -> bool:
        return True

    def has_changed(self) -> bool:
        return False

    def save(self, commit: bool = True) -> list[Task]:
        return []

    def non_form_errors(self) -> ErrorList:
        return ErrorList()


class TaskInlineChecks(InlineModelAdminChecks):
    """Tasks know their record by content type and key: there is no foreign key to look for."""

    def _check_relation(self, obj: Any, parent_model: Any) -> list[CheckMessage]:
        return []

    def _check_exclude_of_parent_model(self, obj: Any, parent_model: Any) -> list[CheckMessage]:
        return []


class TaskInline(_Inline):
    """Shows the newest tasks of the record: ``inlines = [TaskInline]`` in any ModelAdmin."""

    model = Task
    formset = ShownTasks  # type: ignore[assignment]
    checks_class = TaskInlineChecks
    template = "tasks/admin/inline.html"
    fields = ()
    extra = 0
    max_num = 0
    can_delete = False
    verbose_name_plural = _("tasks")

    @property
    def media(self) -> forms.Media:
        return forms.Media(css={"all": ["tasks/dashboard.css", "tasks/host.css"]})

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        factory = forms.modelformset_factory(
            Task, fields=(), formset=ShownTasks, extra=0, max_num=0, can_delete=False
        )
        viewer = Viewer(request, self.admin_site)
        shown = cached_property(lambda formset: self._table(viewer, formset.instance))
        shown.__set_name__(factory, "shown")
        factory.shown = shown  # type: ignore[attr-defined]
        return factory

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("tasks.view_task")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def _table(self, viewer: Viewer, record: models.Model | None) -> InlineTable:
        if record is None or record._state.adding:
            return InlineTable([], is_new=True)
        using = record._state.db or router.db_for_read(Task, instance=record)
        try:
            content_type, key = record_key(record, using)
        except InvalidTask:
            return InlineTable([])  # its key is too long for tasks to keep
        # The pages of this site show one database; a task elsewhere has the same id by chance.
        has_pages = self.has_registered_model and using == router.db_for_read(Task)
        found = viewer.tasks.using(using).of(record).order_by("-pk").defer("data", "result")
        tasks = list(found[: NEWEST + 1])
        return InlineTable(
            [self._row(viewer, task, has_pages) for task in tasks[:NEWEST]],
            are_more=len(tasks) > NEWEST,
            all_url=record_url(viewer, content_type, key) if has_pages else "",
        )

    def _row(self, viewer: Viewer, task: Task, has_page: bool) -> InlineRow:
        return InlineRow(
            task=task,
            url=page_url(viewer, "change", task_id=task.pk) if has_page else "",
            state=state_html(task),
            attempts=attempts_text(task),
            when=when_html(task),
            reason=redact_text(task.reason),
        )
