"""The filters beside the list of tasks; none of them asks the table of tasks for its values."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks.admin.display import SHOWN_STATES
from tasks.conf import aftersave_settings
from tasks.handlers import registry
from tasks.models import Queue, Task

if TYPE_CHECKING:
    from tasks.admin.display import Words

    _Choices = list[tuple[str, Words]]

_SPANS: dict[str, tuple[timedelta, Words]] = {
    "hour": (timedelta(hours=1), _("last hour")),
    "day": (timedelta(days=1), _("last day")),
    "week": (timedelta(days=7), _("last week")),
}


class StateFilter(SimpleListFilter):
    """By the state that is shown."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Choices:
        return [(key, shown.word) for key, shown in SHOWN_STATES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        state = self.value()
        if state is None:
            return queryset
        if state not in SHOWN_STATES:
            raise IncorrectLookupParameters(f"state={state}")
        narrowed: QuerySet[Task] = getattr(queryset, state)()
        return narrowed


class QueueFilter(SimpleListFilter):
    """By queue: those that workers have met, and those that handlers name."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Choices:
        names = set(Queue.objects.values_list("name", flat=True))
        names |= {known.queue for known in registry if known.queue}
        return [(name, name) for name in sorted(names | {aftersave_settings.DEFAULT_QUEUE})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        queue = self.value()
        return queryset if queue is None else queryset.filter(queue=queue.replace("\x00", ""))


class TimeFilter(SimpleListFilter):
    """By the time of creation."""

    title = _("time created")
    parameter_name = "created"

    def lookups(self, request: HttpRequest, model_admin: Any) -> _Choices:
        return [(key, words) for key, (_span, words) in _SPANS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Task]) -> QuerySet[Task]:
        key = self.value()
        if key is None:
            return queryset
        if key not in _SPANS:
            raise IncorrectLookupParameters(f"created={key}")
        return queryset.filter(created_at__gte=timezone.now() - _SPANS[key][0])
