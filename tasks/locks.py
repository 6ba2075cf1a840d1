"""Waiting for locks, but not for long: who waits holds locks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction
from django.db.utils import Error as DatabaseError

#: Serialization failure, deadlock, lock not available.
_BUSY_STATES = ("40001", "40P01", "55P03")
#: MySQL's lock wait timeout and deadlock.
_BUSY_NUMBERS = (1205, 1213)


class StillLocked(Exception):
    """Somebody else was in the way for too long; nothing was changed."""


def is_busy(error: DatabaseError) -> bool:
    """Whether somebody else was in the way, so that the same can be done a moment later."""
    number = error.args[0] if error.args else None
    locked = isinstance(number, str) and number.startswith("database") and "is locked" in number
    return locked or number in _BUSY_NUMBERS or sql_state(error) in _BUSY_STATES


def sql_state(error: DatabaseError) -> str:
    """The code of PostgreSQL for it, empty elsewhere."""
    return getattr(error.__cause__, "sqlstate", None) or ""


@contextmanager
def brief_transaction(using: str, *, seconds: int) -> Iterator[None]:
    """A transaction of its own that waits so long for each lock, and then raises StillLocked."""
    try:
        with _waiting(using, seconds), transaction.atomic(using=using):
            if connections[using].vendor == "postgresql":
                with connections[using].cursor() as cursor:
                    cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{seconds}s"])
            yield
    except DatabaseError as error:
        if not is_busy(error):
            raise
        raise StillLocked from error


@contextmanager
def _waiting(using: str, seconds: int) -> Iterator[None]:
    """MySQL knows no such thing for one transaction."""
    connection = connections[using]
    if connection.vendor != "mysql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.innodb_lock_wait_timeout")
        (usual,) = cursor.fetchone()
        cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [seconds])
    try:
        yield
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = %s", [usual])
