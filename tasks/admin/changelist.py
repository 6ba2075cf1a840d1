"""The list of tasks: pages without a count, records loaded once per model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.db.models.expressions import Combinable
from django.http import HttpRequest

from tasks.admin.records import shown_records
from tasks.models import Task

#: A farther page would make the database read and drop everything before it.
LAST_PAGE = 500

_HEAVY = ("data", "result", "context", "progress_value")


class UncountedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages that know whether there is a next one because they read one row more; no COUNT."""

    def page(self, number: int | str) -> Page[Any]:
        """Page ``number``, from 1; empty when there are no rows, never an error."""
        wanted = self.get_page_number(number)
        bottom = (wanted - 1) * self.per_page
        rows = list(self.object_list[bottom : bottom + self.per_page + 1])
        self.count = bottom + len(rows)
        return Page(rows[: self.per_page], wanted, self)

    @staticmethod
    def get_page_number(number: int | str) -> int:
        """``number`` within 1 and ``LAST_PAGE``."""
        return min(max(1, int(number)), LAST_PAGE)

    #: Rows known to exist, up to the page read last; ``Paginator`` would count the whole table.
    count = 0

    @property
    def num_pages(self) -> int:
        """Pages known to exist."""
        return max(1, -(-self.count // self.per_page))


class TaskChangeList(ChangeList):
    """Newest first, one page at a time."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Task]:
        return super().get_queryset(request, *args, **kwargs).defer(*_HEAVY)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[str | Combinable]:
        return ["-pk"]

    def get_results(self, request: HttpRequest) -> None:
        self.paginator = self.model_admin.get_paginator(request, self.queryset, self.list_per_page)
        page = self.paginator.page(self.page_num)
        self.page_num = page.number
        self.result_list = self._with_records(request, page.object_list)
        # What Django's templates ask for; equal figures say "nothing beyond this page".
        self.result_count = self.full_result_count = len(self.result_list)
        self.show_full_result_count = False
        self.show_admin_actions = bool(self.result_list)
        self.can_show_all = self.multi_page = False
        self.newer_url = self._page_url(page.number - 1) if page.number > 1 else ""
        more = page.has_next() and page.number < LAST_PAGE
        self.older_url = self._page_url(page.number + 1) if more else ""
        self.is_last_page = page.has_next() and not more

    def _with_records(self, request: HttpRequest, tasks: Sequence[Task]) -> Sequence[Task]:
        shown = shown_records(request, self.model_admin.admin_site, tasks)
        for task in tasks:
            task.__dict__["shown_record"] = shown.get(task.pk, "–")
        return tasks

    def _page_url(self, number: int) -> str:
        return self.get_query_string({PAGE_VAR: number})
