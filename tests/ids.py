"""Where the ids of new rows begin."""

from typing import Any

from django.apps import apps
from django.db import connection, models

_APART = 100_000


def begin_ids() -> None:
    """Each empty table's next id becomes one that is the same every time and in no other table.

    Sequences outlive the rows of a test. Whether a record's key meets a number that a test has
    written down, or a key of another table, would depend on what ran before.
    """
    with connection.cursor() as cursor:
        moved = _next_ids(cursor) if connection.vendor == "mysql" else {}
        for number, (table, column) in enumerate(sorted(_numbered_tables().items()), start=1):
            first = number * _APART
            # Altering a table is slow.
            if moved.get(table) != first and _is_empty(cursor, table):
                _begin(cursor, table, column, first)


def _numbered_tables() -> dict[str, str]:
    """Tables with ids that the database counts, and the columns of these."""
    tables = (one._meta for one in apps.get_models(include_auto_created=True))
    keys = (one.pk for one in tables if one.managed and not one.proxy)
    numbered = (key for key in keys if isinstance(key, models.AutoField))
    return {key.model._meta.db_table: key.column for key in numbered}


def _next_ids(cursor: Any) -> dict[str, int]:
    cursor.execute(
        "SELECT table_name, auto_increment FROM information_schema.tables "
        "WHERE table_schema = DATABASE()"
    )
    return dict(cursor.fetchall())


def _is_empty(cursor: Any, table: str) -> bool:
    cursor.execute(f"SELECT 1 FROM {connection.ops.quote_name(table)} LIMIT 1")
    return cursor.fetchone() is None


def _begin(cursor: Any, table: str, column: str, first: int) -> None:
    if connection.vendor == "postgresql":
        sequence = "pg_get_serial_sequence(%s, %s)"
        cursor.execute(f"SELECT setval({sequence}, %s, false)", [f'"{table}"', column, first])
    elif connection.vendor == "mysql":
        cursor.execute(f"ALTER TABLE `{table}` AUTO_INCREMENT = {first}")
    else:
        before = [table, first - 1]
        cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
        cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", before)
