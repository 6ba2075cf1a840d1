"""The database's clock: the one clock that all workers share."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.db.models.sql.compiler import SQLCompiler


class DatabaseNow(Now):
    """The time of the statement. MySQL's Now() is local to the server, stored times are UTC."""

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Any:
        function = "UTC_TIMESTAMP" if settings.USE_TZ else "CURRENT_TIMESTAMP"
        return self.as_sql(compiler, connection, template=f"{function}(6)", **context)
