"""Tasks on an admin site: rights, and the addresses of the dashboard's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.http import HttpRequest
from django.urls import URLPattern

from tasks.dashboard.urls import urlpatterns
from tasks.models import Task

if TYPE_CHECKING:
    _Mixed = admin.ModelAdmin[Task]
else:
    _Mixed = object


class TaskAdminMixin(_Mixed):
    """The dashboard in place of Django's own pages, for any subclass of ModelAdmin.

    Tasks are made by ``enqueue`` and changed by their buttons, so nobody may add, change or delete
    them in a form.
    """

    def has_view_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        return request.user.has_perm("tasks.view_task")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Task | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        return urlpatterns(self)


@admin.register(Task)
class TaskAdmin(TaskAdminMixin, admin.ModelAdmin):  # type: ignore[type-arg]
    """Tasks on the default admin site."""
