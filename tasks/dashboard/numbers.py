"""How numbers look: grouped as the language does, rounded to what matters."""

from __future__ import annotations

from django.utils.formats import number_format
from django.utils.translation import gettext as _


def number(value: float, decimals: int = 0) -> str:
    """``12,345``."""
    return str(number_format(value, decimals, use_l10n=True, force_grouping=True))


def about(value: int, *, exact: bool = True) -> str:
    """``12,345`` or ``≈ 12,000``."""
    if exact:
        return number(value)
    size = 10 ** max(0, len(str(value)) - 2)
    return f"≈ {number(value // size * size)}"


def more_than(value: int, limit: int) -> str:
    """``value``, or that it is above ``limit``, where nobody went on counting."""
    return number(value) if value <= limit else _("> %(number)s") % {"number": number(limit)}


def rate(value: float | None) -> str:
    """So many a minute, or a second: ``0.4``, ``12``; a dash where nobody reported."""
    if value is None:
        return "–"
    return _short(value)


def share(value: float | None) -> str:
    """A part of one as ``3 %``; a dash where there is nothing to have a part of."""
    if value is None:
        return "–"
    return _("%(number)s %%") % {"number": _short(value * 100)}


def seconds(value: float | None) -> str:
    """``250 ms``, ``1.5 s``, ``3 min``, ``2.1 h``; a dash where nothing was measured."""
    if value is None:
        return "–"
    if value < 1:
        return _("%(number)s ms") % {"number": number(value * 1000)}
    if value < 60:
        return _("%(number)s s") % {"number": _short(value)}
    if value < 3600:
        return _("%(number)s min") % {"number": _short(value / 60)}
    return _("%(number)s h") % {"number": _short(value / 3600)}


def _short(value: float) -> str:
    """One decimal for small numbers, unless it is a nought."""
    rounded = round(value, 1)
    return number(rounded, 0 if rounded >= 10 or rounded == int(rounded) else 1)
