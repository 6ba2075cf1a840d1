"""The database's clock: the one clock that all workers share."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.functions import Now
from django.db.models.sql import Query
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone


class DatabaseNow(Now):
    """The time of the statement, in the zone of stored times: UTC, without USE_TZ TIME_ZONE."""

    def as_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Any:
        zone = "" if settings.USE_TZ else ", 'localtime'"  # Django tells the process TIME_ZONE
        template = f"STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f', 'NOW'{zone})"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_mysql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **context: Any
    ) -> Any:
        template = "UTC_TIMESTAMP(6)"
        if not settings.USE_TZ:
            # Neither need the server's zone be TIME_ZONE, nor need it know zones by name.
            offset = datetime.now(timezone.get_default_timezone()).isoformat()[-6:]
            template = f"CONVERT_TZ({template}, '+00:00', '{offset}')"
        return self.as_sql(compiler, connection, template=template, **context)


def database_now(using: str) -> datetime:
    """What the clock of this database says, like ``timezone.now``: naive without USE_TZ."""
    sql, params = Query(None).get_compiler(using).compile(DatabaseNow())
    with connections[using].cursor() as cursor:
        cursor.execute(f"SELECT {sql}", params)
        found: Any = cursor.fetchone()[0]
    moment = datetime.fromisoformat(found) if isinstance(found, str) else found
    zone = UTC if settings.USE_TZ else timezone.get_default_timezone()
    aware = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    return aware.astimezone(UTC) if settings.USE_TZ else timezone.make_naive(aware, zone)
