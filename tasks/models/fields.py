"""Columns and indexes that mean the same on every database."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.backends.ddl_references import Statement


class KeyField(models.CharField):  # type: ignore[type-arg]
    """Text compared exactly: MySQL's default collations would take 'a' and 'A' for one key."""

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        parameters: Any = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


class WorkIndex(models.Index):
    """A partial index over the rows ``where`` names.

    Databases without partial indexes get a plain one that starts with the columns of ``where``.
    """

    def __init__(self, *, fields: list[str], name: str, where: dict[str, Any]) -> None:
        self.where = where
        super().__init__(fields=fields, name=name, condition=models.Q(**where))

    def deconstruct(self) -> Any:
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, (), {"fields": self.fields, "name": self.name, "where": self.where}

    def create_sql(
        self,
        model: type[models.Model],
        schema_editor: BaseDatabaseSchemaEditor,
        using: str = "",
        **kwargs: Any,
    ) -> Statement:
        if schema_editor.connection.features.supports_partial_indexes:
            return super().create_sql(model, schema_editor, using, **kwargs)
        columns = [name.split("__")[0] for name in self.where]
        plain = models.Index(fields=[*columns, *self.fields], name=self.name)
        return plain.create_sql(model, schema_editor, using, **kwargs)
