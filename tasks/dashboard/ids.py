"""Numbers of rows as they come in addresses and forms."""

from __future__ import annotations

BIGGEST_ID = 2**63 - 1


def read_id(text: str) -> int | None:
    """The number that ``text`` is in digits; None where no row could have it."""
    if not (text.isascii() and text.isdecimal()):
        return None
    # Python refuses to read thousands of digits.
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) < 20 and int(digits) <= BIGGEST_ID else None
