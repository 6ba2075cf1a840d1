"""Reading that ends in time: nothing a page asks may hold a connection for longer than it says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connections, transaction

#: SQLite looks at the clock each time it has done so many steps.
_STEPS = 20_000
#: A database's clock may be so much ahead of ours.
_PRECISION = 0.05


class OutOfTime(Exception):
    """A question was given up because its time was over."""


class Patience:
    """Time that is left for reading from one database."""

    def __init__(self, using: str, seconds: float) -> None:
        self.connection = connections[using]
        self.deadline = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until the deadline, not below 0."""
        return max(0.0, self.deadline - time.monotonic())

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Raises OutOfTime when the database gave up because the time was over."""
        try:
            yield
        except OperationalError as error:
            if self.left > _PRECISION:
                raise
            raise OutOfTime from error

    def check(self) -> None:
        """Raises OutOfTime; on PostgreSQL the next statements may take what is left."""
        if not self.left:
            raise OutOfTime
        if self.connection.vendor == "postgresql":
            with self.connection.cursor() as cursor:
                # Nor may statistics that are old or missing lead over the whole table.
                cursor.execute(
                    "SELECT set_config('statement_timeout', %s, true),"
                    " set_config('enable_seqscan', 'off', true),"
                    " set_config('enable_sort', 'off', true)",
                    [str(max(1, round(self.left * 1000)))],
                )


@contextmanager
def patience(using: str, seconds: float) -> Iterator[Patience]:
    """Inside, questions to ``using`` are given up after ``seconds``: OutOfTime. To read only."""
    kept = Patience(using, seconds)
    with kept.asking(), _limited(kept):
        kept.check()
        yield kept


@contextmanager
def _limited(kept: Patience) -> Iterator[None]:
    connection = kept.connection
    if connection.vendor == "postgresql":
        with transaction.atomic(using=connection.alias):
            yield
            # What was set ends here, also inside a transaction of the host's.
            transaction.set_rollback(True, using=connection.alias)
    elif connection.vendor == "sqlite":
        connection.ensure_connection()
        raw: Any = connection.connection
        raw.set_progress_handler(lambda: not kept.left, _STEPS)
        try:
            yield
        finally:
            raw.set_progress_handler(None, 0)
    elif getattr(connection, "mysql_is_mariadb", False):
        with connection.execute_wrapper(_with_limit(kept)):
            yield
    else:
        yield


def _with_limit(kept: Patience) -> Any:
    def execute(run: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT"):
            sql = f"SET STATEMENT max_statement_time={max(0.001, kept.left):.3f} FOR {sql}"
        return run(sql, params, many, context)

    return execute
