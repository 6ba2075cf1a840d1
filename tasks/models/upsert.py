"""Rows inserted, or added to those that are there: one statement, on every database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.db import connections, models

_AT_ONCE = 500


def upsert(
    using: str,
    rows: Sequence[models.Model],
    *,
    unique: Sequence[str],
    add: Collection[str] = (),
    replace: Collection[str] = (),
) -> None:
    """Insert ``rows`` of one model, in this order. Where a row with the same ``unique`` columns
    stands, the columns in ``add`` are added to its own, those in ``replace`` take their place.

    Rows are locked in the order given, so who gives them sorted meets nobody in a circle.
    """
    for first in range(0, len(rows), _AT_ONCE):
        _upsert(using, rows[first : first + _AT_ONCE], unique, add, replace)


def _upsert(
    using: str,
    rows: Sequence[models.Model],
    unique: Sequence[str],
    add: Collection[str],
    replace: Collection[str],
) -> None:
    connection = connections[using]
    meta = rows[0]._meta
    columns_of: dict[str, Any] = {
        field.name: field for field in meta.concrete_fields if not field.primary_key
    }
    fields = list(columns_of.values())
    quote = connection.ops.quote_name
    table = quote(meta.db_table)
    if connection.features.supports_update_conflicts_with_target:
        target = ", ".join(quote(columns_of[name].column) for name in unique)
        head, new = f"ON CONFLICT ({target}) DO UPDATE SET", "excluded.{}"
    else:
        head, new = "ON DUPLICATE KEY UPDATE", "VALUES({})"
    changes = [
        f"{column} = {table}.{column} + {new.format(column)}" for column in map(quote, add)
    ] + [f"{column} = {new.format(column)}" for column in map(quote, replace)]
    columns = ", ".join(quote(field.column) for field in fields)
    one = f"({', '.join(['%s'] * len(fields))})"
    values = ", ".join([one] * len(rows))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) VALUES {values} {head} {', '.join(changes)}",
            [
                field.get_db_prep_save(getattr(row, field.attname), connection)
                for row in rows
                for field in fields
            ],
        )
