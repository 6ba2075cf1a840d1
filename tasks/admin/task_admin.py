"""Tasks in Django's admin: they are looked at and acted on, never edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tasks.admin.buttons import (
    BUTTONS,
    CANCEL,
    COMPLETE,
    LONGEST_REASON,
    RETRY,
    Button,
    NotDone,
    named,
    press,
)
from tasks.admin.changelist import TaskChangeList, UncountedPaginator
from tasks.admin.detail import task_page, task_url
from tasks.admin.display import attempts_text, state_html, when_html
from tasks.admin.filters import QueueFilter, StateFilter, TimeFilter
from tasks.admin.search import search_tasks
from tasks.admin.selected import check_posted_action, press_for_selected
from tasks.models import Task
from tasks.redact import redact_text

if TYPE_CHECKING:
    _Mixed = admin.ModelAdmin[Task]
else:
    _Mixed = object


class TaskAdminMixin(_Mixed):
    """The list of tasks, the page of each, and their buttons, for any subclass of ModelAdmin."""

    list_display = (
        "shown_title",
        "shown_record",
        "shown_state",
        "shown_queue",
        "shown_attempts",
        "shown_when",
        "shown_reason",
    )
    list_filter = (StateFilter, QueueFilter, TimeFilter)
    list_per_page = 50
    list_max_show_all = 0
    list_select_related = False
    sortable_by = ()
    # Only turns the box on: see get_search_results.
    search_fields = ("id",)
    search_help_text = gettext_lazy(
        "A task's number or name (email. finds all of that type), or its record: Order 1042"
    )
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    paginator = UncountedPaginator
    actions = ("retry_selected", "cancel_selected", "complete_selected")
    change_list_template = "tasks/admin/change_list.html"
    task_template = "tasks/admin/task.html"

    class Media:
        css = {"all": ["tasks/admin.css"]}

    # Rights

    def has_view_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        return request.user.has_perm("tasks.view_task")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        return False

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return self._may(request, RETRY)

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return self._may(request, CANCEL)

    def has_complete_permission(self, request: HttpRequest) -> bool:
        return self._may(request, COMPLETE)

    def _may(self, request: HttpRequest, button: Button) -> bool:
        return self.has_view_permission(request) and request.user.has_perm(button.permission)

    # The list

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[TaskChangeList]:
        return TaskChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # Django would let anybody who sees the list filter by any column, data included.
        return lookup in {shown.parameter_name for shown in (StateFilter, QueueFilter, TimeFilter)}

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        return search_tasks(request, self.admin_site, queryset, search_term), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        check_posted_action(self, request)
        return super().changelist_view(request, {"title": _("Tasks"), **(extra_context or {})})

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        # Django 5.2 knows no locations, later versions warn about who does not take them.
        known = {} if action_location is None else {"action_location": action_location}
        actions: dict[str, Any] = super().get_actions(request, **known)
        # Also one that a host offers on its whole site, whatever rights that asks for.
        actions.pop("delete_selected", None)
        return actions

    @admin.action(permissions=["retry"], description=RETRY.selected)
    def retry_selected(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return press_for_selected(self, request, RETRY)

    @admin.action(permissions=["cancel"], description=CANCEL.selected)
    def cancel_selected(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return press_for_selected(self, request, CANCEL)

    @admin.action(permissions=["complete"], description=COMPLETE.selected)
    def complete_selected(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        return press_for_selected(self, request, COMPLETE)

    # Columns

    @admin.display(description=gettext_lazy("Task"))
    def shown_title(self, task: Task) -> SafeString:
        return format_html(
            '{} <span class="af-small">{} #{}</span>',
            task.title,
            task.name if task.title != task.name else "",
            task.pk,
        )

    @admin.display(description=gettext_lazy("Record"))
    def shown_record(self, task: Task) -> Any:
        return task.__dict__.get("shown_record", "–")

    @admin.display(description=gettext_lazy("State"))
    def shown_state(self, task: Task) -> SafeString:
        return state_html(task)

    @admin.display(description=gettext_lazy("Queue"))
    def shown_queue(self, task: Task) -> str:
        return str(task.queue)

    @admin.display(description=gettext_lazy("Attempts"))
    def shown_attempts(self, task: Task) -> str:
        return attempts_text(task)

    @admin.display(description=gettext_lazy("When"))
    def shown_when(self, task: Task) -> SafeString:
        return when_html(task)

    @admin.display(description=gettext_lazy("Reason"), empty_value="")
    def shown_reason(self, task: Task) -> str:
        if not task.reason:
            return ""
        reason = redact_text(task.reason)
        return format_html('<span class="af-clamp" title="{}">{}</span>', reason, reason)

    # The page of one task

    def get_urls(self) -> list[URLPattern]:
        buttons = [
            path(
                f"<path:object_id>/{button.name}/",
                self.admin_site.admin_view(self._button_view(button)),
                name=f"tasks_task_{button.name}",
            )
            for button in BUTTONS.values()
        ]
        return [*buttons, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method not in ("GET", "HEAD") or not self.has_view_permission(request):
            raise PermissionDenied
        task = self._find(request, object_id)
        context = {
            **self.admin_site.each_context(request),
            **task_page(request, self.admin_site, task),
            "title": task.title,
            "subtitle": None,
            "opts": self.opts,
            "media": self.media,
            "list_query": self._list_query(request),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.task_template, context)

    @staticmethod
    def _list_query(request: HttpRequest) -> str:
        """The filters of the list this person comes from."""
        filters = request.GET.get("_changelist_filters", "")
        return f"?{filters}" if filters else ""

    def _find(self, request: HttpRequest, object_id: str) -> Task:
        task = self.get_object(request, unquote(object_id))
        if task is None:
            raise Http404(_("There is no task %(id)s (any more).") % {"id": object_id})
        return task

    def _button_view(self, button: Button) -> Callable[..., HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            if request.method != "POST":
                return HttpResponseNotAllowed(["POST"])
            if not self._may(request, button):
                raise PermissionDenied
            task = self._find(request, object_id)
            self._press(request, button, task)
            return HttpResponseRedirect(task_url(self.admin_site, task.pk))

        return view

    def _press(self, request: HttpRequest, button: Button, task: Task) -> None:
        reason = request.POST.get("reason", "").strip()[:LONGEST_REASON]
        if button.needs_reason and not reason:
            text = _("Nothing was done: please give a reason.")
            self.message_user(request, text, messages.ERROR)
            return
        try:
            press(
                button,
                task,
                by=request.user,
                reason=reason,
                log=self.logger(request),
                seen=request.POST.get("version", ""),
            )
        except NotDone as refused:
            self.message_user(request, str(refused), messages.WARNING)
        else:
            text = _("%(task)s was %(done)s.") % {"task": "{}", "done": button.done}
            link = format_html(
                '<a href="{}">{}</a>', task_url(self.admin_site, task.pk), named(task)
            )
            self.message_user(request, format_html(text, link), messages.SUCCESS)

    def logger(self, request: HttpRequest) -> Callable[[Task, str], object]:
        """Writes what this person did to Django's admin log."""
        return lambda task, text: self.log_change(request, task, text)


@admin.register(Task)
class TaskAdmin(TaskAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Tasks on the default admin site."""
