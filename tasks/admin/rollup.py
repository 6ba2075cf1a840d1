"""Tasks in the host's own change lists: a column that sums them up, and a filter."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.contenttypes.models import ContentType
from django.db import connections, models, router
from django.db.models import Value
from django.db.models.functions import Cast, Replace
from django.http import HttpRequest
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from tasks.dashboard.records import key_field, key_of, record_url
from tasks.dashboard.rollup import rollup_html, rollups
from tasks.dashboard.viewer import Viewer
from tasks.exceptions import InvalidTask
from tasks.models import Task, TaskQuerySet
from tasks.models.records import owner_model, record_key

if TYPE_CHECKING:
    _Mixed = admin.ModelAdmin[models.Model]
else:
    _Mixed = object

#: So many failed tasks, the newest, are compared where only Python can read their records' keys.
MOST_COMPARED = 10_000
#: What makes of a key what the database holds, or the other way round.
_CONVERSIONS = ("to_python", "from_db_value", "get_prep_value", "get_db_prep_value")


class TaskRollupMixin(_Mixed):
    """Put ``"tasks_rollup"`` into ``list_display``: "3 of 4 done, 1 failed" for each row.

    One query a page, whatever the number of rows.
    """

    @property
    def media(self) -> forms.Media:
        return super().media + forms.Media(css={"all": ["tasks/dashboard.css", "tasks/host.css"]})

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        if "tasks_rollup" in changelist.list_display:
            _sum_up(Viewer(request, self.admin_site), changelist.result_list)
        return changelist

    @admin.display(description=_("tasks"))
    def tasks_rollup(self, record: models.Model) -> SafeString:
        """The column."""
        return record.__dict__.get("_aftersave_rollup", SafeString("–"))  # type: ignore[no-any-return]


def _sum_up(viewer: Viewer, records: Iterable[models.Model]) -> None:
    """Give each of ``records``, which are of one model, the text of its column."""
    rows = list(records)
    if not rows or not viewer.may_enter:
        return
    using = rows[0]._state.db or router.db_for_read(Task)
    keys: dict[str, models.Model] = {}
    for record in rows:
        # One whose key is too long for tasks to keep has none.
        with suppress(InvalidTask):
            keys[record_key(record, using)[1]] = record
    owner = owner_model(type(rows[0]))
    content_type = ContentType.objects.db_manager(using).get_for_model(owner)
    # The pages of this site show one database; elsewhere a link would lead to another record.
    has_pages = viewer.site.is_registered(Task) and using == router.db_for_read(Task)
    counted = rollups(viewer.tasks.using(using), content_type.pk, list(keys))
    for key, counts in counted.items():
        text = rollup_html(counts, ("failed",))
        url = record_url(viewer, content_type, key) if has_pages else ""
        shown = format_html('<a href="{}">{}</a>', url, text) if url else text
        keys[key].__dict__["_aftersave_rollup"] = shown


class FailedTasksFilter(admin.SimpleListFilter):
    """Put it into ``list_filter``: the records that have failed tasks."""

    title = _("failed tasks")
    parameter_name = "tasks"

    def __init__(
        self,
        request: HttpRequest,
        params: dict[str, Any],
        model: type[models.Model],
        model_admin: admin.ModelAdmin[Any],
    ) -> None:
        self.viewer = Viewer(request, model_admin.admin_site)
        self._said = False
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        return [("failed", _("Has failed tasks"))] if self.viewer.may_enter else []

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Any]
    ) -> models.QuerySet[Any]:
        if self.value() != "failed" or not self.viewer.may_enter:
            return queryset
        owner = owner_model(queryset.model)
        types = ContentType.objects.db_manager(queryset.db)
        failed = self.viewer.tasks.using(queryset.db).failed()
        failed = failed.filter(content_type=types.get_for_model(owner)).order_by()
        keys = _compared(failed, owner, queryset.db)
        if keys is None:
            keys, are_all = _read(failed, owner)
            if not are_all:
                self._say_so(request)
        return queryset.filter(**{f"{_pk(owner).name}__in": keys})

    def _say_so(self, request: HttpRequest) -> None:
        # An action posts to the list and is sent back to it: there it is said once.
        if request.method == "GET" and not self._said:
            self._said = True
            text = _(
                "Records may be missing here: more than %(count)s of their tasks are failed, and "
                "keys of this kind are compared for the newest of them only."
            )
            number = number_format(MOST_COMPARED, force_grouping=True)
            messages.warning(request, text % {"count": number}, fail_silently=True)


def _pk(model: type[models.Model]) -> Any:
    return model._meta.pk


def _compared(failed: TaskQuerySet, owner: type[models.Model], using: str) -> Any | None:
    """The keys of the records of ``failed`` as the database compares them with the records' own.

    None where it cannot: it holds them otherwise than tasks write them.
    """
    field = key_field(owner)
    if not _is_held_as_djangos_own(field):
        return None
    if isinstance(field, models.CharField | models.TextField):
        return failed.values("object_id")
    if isinstance(field, models.IntegerField):
        return failed.values(key=Cast("object_id", models.BigIntegerField()))
    if isinstance(field, models.DecimalField):
        return failed.values(key=Cast("object_id", _like(field)))
    if isinstance(field, models.DateField) and not isinstance(field, models.DateTimeField):
        return failed.values(key=Cast("object_id", models.DateField()))
    if isinstance(field, models.UUIDField) and connections[using].features.has_native_uuid_field:
        return failed.values(key=Cast("object_id", models.UUIDField()))
    if isinstance(field, models.UUIDField):
        return failed.values(key=Replace("object_id", Value("-"), Value("")))
    return None


def _is_held_as_djangos_own(field: Any) -> bool:
    """Whether the column holds what the field's own class of Django puts there.

    A host's field may show "ord_7Xk" where the column says 17.
    """
    ways = [getattr(type(field), name, None) for name in _CONVERSIONS]
    return all(way is None or way.__module__.startswith("django.") for way in ways)


def _like(field: models.DecimalField[Any, Any]) -> models.DecimalField[Any, Any]:
    return models.DecimalField(max_digits=field.max_digits, decimal_places=field.decimal_places)


def _read(failed: TaskQuerySet, owner: type[models.Model]) -> tuple[list[Any], bool]:
    """The keys of the records of the newest of ``failed``, and whether these are all."""
    newest = failed.order_by("-pk").values_list("object_id", flat=True)
    texts = [str(text) for text in newest[: MOST_COMPARED + 1]]
    keys = (key_of(owner, text) for text in dict.fromkeys(texts[:MOST_COMPARED]))
    return [key for key in keys if key is not None], len(texts) <= MOST_COMPARED
