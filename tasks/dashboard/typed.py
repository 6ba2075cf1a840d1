"""What people typed into a form or an address, as every database takes it."""

from __future__ import annotations

from django.http import QueryDict

LONGEST_TYPED = 1000


def typed(given: QueryDict, *fields: str) -> str:
    """The text of the first of ``fields`` that is not empty, cut to ``LONGEST_TYPED``."""
    return next((text for name in fields if (text := typed_whole(given, name))), "")[:LONGEST_TYPED]


def typed_whole(given: QueryDict, field: str) -> str:
    """The text of a field, however long it is."""
    # PostgreSQL refuses NUL, which no keyboard has.
    return given.get(field, "").replace("\x00", "").strip()
