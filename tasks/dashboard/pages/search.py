"""What the search box found. One hit opens at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from tasks.dashboard.display import state_html, when_html
from tasks.dashboard.finding import (
    MOST_RECORDS,
    MOST_TASKS,
    find_records,
    searchable_models,
    task_meant,
    tasks_by_key,
    tidy,
)
from tasks.dashboard.page import Page, page_url
from tasks.dashboard.records import ShownRecord, admin_of, shown_keys, shown_records
from tasks.dashboard.rollup import rollup_html, rollups
from tasks.handlers import registry
from tasks.models import Task


@dataclass(frozen=True)
class FoundRecord:
    """A record that was found, and how its tasks are."""

    record: ShownRecord
    rollup: SafeString


@dataclass(frozen=True)
class FoundModel:
    """Records of one model; ``is_cut`` when there may be more."""

    name: str
    records: list[FoundRecord]
    is_cut: bool


@dataclass(frozen=True)
class FoundTask:
    """A task that was found by its number or by what its data says."""

    task: Task
    url: str
    state: SafeString
    when: SafeString
    record: ShownRecord | None


@dataclass(frozen=True)
class Searchable:
    """What can be searched: a model, and by what."""

    name: str
    by: str


class SearchPage(Page):
    """Tasks by number, records by whatever the host's own admin finds them."""

    name = "search"
    path = "search/"
    template = "tasks/dashboard/search.html"

    @property
    def title(self) -> str:
        return _("Search for “%(text)s”") % {"text": self.text} if self.text else _("Search")

    @cached_property
    def text(self) -> str:
        """What was typed."""
        return tidy(self.query.get("q", ""))[:500]

    @cached_property
    def by_key(self) -> list[Task]:
        """Tasks in whose data the text stands under a key that can be searched."""
        return tasks_by_key(self.viewer, self.text)

    @cached_property
    def tasks(self) -> list[FoundTask]:
        """The task with this number, and those found by a key that have no record."""
        meant = task_meant(self.viewer, self.text)
        rows = [meant] if meant else []
        rows += [task for task in self._without_record if task != meant]
        rows = rows[:MOST_TASKS]
        records = shown_records(self.viewer, rows)
        return [
            FoundTask(
                task=task,
                url=page_url(self.viewer, "change", task_id=task.pk),
                state=state_html(task),
                when=when_html(task),
                record=records.get(task.pk),
            )
            for task in rows
        ]

    @property
    def _without_record(self) -> list[Task]:
        return [task for task in self.by_key if task.content_type_id is None]

    @cached_property
    def by_model(self) -> list[FoundModel]:
        """Records, by model: those that are called so, and those of tasks found by a key."""
        if not self.text or (self.text.startswith("#") and self.tasks):
            return []
        found = find_records(self.viewer, self.text)
        for task in self.by_key:
            if task.content_type_id is not None:
                keys = found.setdefault(task.content_type_id, [])
                if task.object_id not in keys:
                    keys.append(str(task.object_id))
        return [
            self._model(content_type_id, keys[:MOST_RECORDS])
            for content_type_id, keys in found.items()
        ]

    def elsewhere(self) -> str:
        hits = [found.url for found in self.tasks]
        hits += [found.record.story_url for model in self.by_model for found in model.records]
        return hits[0] if len(hits) == 1 else ""

    def context(self) -> dict[str, Any]:
        listed = page_url(self.viewer, "changelist")
        return {
            "search_text": self.text,
            "tasks": self.tasks,
            "tasks_are_cut": len(self._without_record) > MOST_TASKS,
            "models": self.by_model,
            "most": MOST_RECORDS,
            "list_url": listed,
            "searchable": [self._searchable(model) for model in searchable_models(self.viewer)],
            "search_keys": sorted({key for known in registry for key in known.search}),
        }

    def _model(self, content_type_id: int, keys: list[str]) -> FoundModel:
        records = shown_keys(self.viewer, content_type_id, keys)
        counts = rollups(self.viewer.tasks, content_type_id, keys)
        return FoundModel(
            name=_plural(
                ContentType.objects.db_manager(Task.objects.db).get_for_id(content_type_id)
            ),
            records=[
                FoundRecord(records[key], rollup_html(counts.get(key, {})))
                for key in keys
                if records[key].story_url
            ],
            is_cut=len(keys) >= MOST_RECORDS,
        )

    def _searchable(self, model: type[models.Model]) -> Searchable:
        registered: Any = admin_of(self.viewer.site, model)
        fields = registered.get_search_fields(self.viewer.request) if registered else ()
        words = dict.fromkeys([_("key"), *(_field_word(model, field) for field in fields)])
        return Searchable(capfirst(str(model._meta.verbose_name)), ", ".join(words))


def _plural(content_type: ContentType) -> str:
    model = content_type.model_class()
    return capfirst(str(model._meta.verbose_name_plural) if model else content_type.model)


def _field_word(model: type[models.Model], search_field: str) -> str:
    """``e-mail`` of ``^email__iexact``."""
    name = search_field.lstrip("^=@").split("__")[0]
    known = {field.name: field for field in model._meta.get_fields()}
    return str(getattr(known.get(name), "verbose_name", name))
