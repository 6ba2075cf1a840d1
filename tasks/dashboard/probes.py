"""Many small bounded questions about tasks, asked in one statement.

What a page shows for each queue or incident must cost as many queries with a hundred of them as
with one, and must read a bounded part of an index: never the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import Value

from tasks.models import Task, TaskQuerySet

#: Counts are exact up to here.
MOST_COUNTED = 10_000
#: SQLite takes at most 500 SELECTs in one statement.
_AT_ONCE = 200


def counts(questions: Sequence[TaskQuerySet], most: int = MOST_COUNTED) -> list[int]:
    """How many tasks each of ``questions`` finds; ``most`` + 1 says "more than ``most``".

    Each should come in the order of the index that answers it: without one PostgreSQL may read the
    table from its beginning, in the hope of finding enough soon.
    """
    found = [0] * len(questions)
    # No column of theirs, so that an index may answer without a look at its rows.
    limited = [tasks.values(one=Value(1))[: most + 1] for tasks in questions]
    select = "SELECT {number}, COUNT(*) FROM ({sql}) AS part"
    if limited and connections[limited[0].db].vendor == "postgresql":
        select = "SELECT {number}, cardinality(ARRAY({sql}))"
    for number, counted in _ask(select, limited):
        found[number] = counted
    return found


def ids(questions: Sequence[TaskQuerySet]) -> list[list[int]]:
    """The ids each of ``questions`` finds, in its order; every one must be sliced."""
    found: list[list[int]] = [[] for _ in questions]
    keys = [tasks.values("pk") for tasks in questions]
    for number, key in _ask("SELECT {number}, part.* FROM ({sql}) AS part", keys):
        found[number].append(key)
    return found


def firsts(questions: Sequence[TaskQuerySet]) -> dict[int, Task]:
    """The first task that each of ``questions`` finds, by the place of its question.

    Every one must be sliced and name its columns with ``only``.
    """
    found: dict[int, Task] = {}
    select = "SELECT {number} AS question, part.* FROM ({sql}) AS part"
    for sql, params in _statements(select, questions):
        for task in Task.objects.using(questions[0].db).raw(sql, params):
            found.setdefault(task.__dict__["question"], task)
    return found


def _ask(select: str, questions: Sequence[Any]) -> Iterator[tuple[int, int]]:
    for sql, params in _statements(select, questions):
        with connections[questions[0].db].cursor() as cursor:
            cursor.execute(sql, params)
            yield from cursor.fetchall()


def _statements(select: str, questions: Sequence[Any]) -> Iterator[tuple[str, list[Any]]]:
    for start in range(0, len(questions), _AT_ONCE):
        selects: list[str] = []
        params: list[Any] = []
        for number, question in enumerate(questions[start : start + _AT_ONCE], start):
            try:
                sql, given = question.query.get_compiler(question.db).as_sql()
            except EmptyResultSet:
                continue
            selects.append(select.format(number=number, sql=sql))
            params.extend(given)
        if selects:
            yield " UNION ALL ".join(selects), params
