"""What an error of the database means for the rows that were to be written."""

from __future__ import annotations

from django.db.utils import DataError, IntegrityError
from django.db.utils import Error as DatabaseError

#: Data exceptions, integrity violations, program limits: https://www.postgresql.org/docs/18/errcodes-appendix.html
_CONTENT_CLASSES = ("22", "23", "54")
#: Serialization failure, deadlock, lock not available.
_BUSY_STATES = ("40001", "40P01", "55P03")
#: MySQL's lock wait timeout and deadlock.
_BUSY_NUMBERS = (1205, 1213)


def about_content(error: DatabaseError) -> bool:
    """Whether the database refuses what the rows contain, so that others may still be written."""
    return isinstance(error, DataError | IntegrityError) or _state(error)[:2] in _CONTENT_CLASSES


def is_busy(error: DatabaseError) -> bool:
    """Whether somebody else was in the way, so that the same rows can be written a moment later."""
    number = error.args[0] if error.args else None
    locked = isinstance(number, str) and number.startswith("database") and "is locked" in number
    return locked or number in _BUSY_NUMBERS or _state(error) in _BUSY_STATES


def _state(error: DatabaseError) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""
