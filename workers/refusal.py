"""What an error of the database means for the rows that were to be written."""

from __future__ import annotations

from django.db.utils import DataError, IntegrityError
from django.db.utils import Error as DatabaseError

from tasks.locks import sql_state

#: Data exceptions, integrity violations, program limits: https://www.postgresql.org/docs/18/errcodes-appendix.html
_CONTENT_CLASSES = ("22", "23", "54")


def about_content(error: DatabaseError) -> bool:
    """Whether the database refuses what the rows contain, so that others may still be written."""
    return isinstance(error, DataError | IntegrityError) or sql_state(error)[:2] in _CONTENT_CLASSES
