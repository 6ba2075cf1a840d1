"""What a term of a search comes to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _


class NoMeaning(ValueError):
    """A term that cannot be looked for; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """One term, understood.

    ``head`` stands for "tasks" in the explanation, ``words`` follow it. ``in_order``: an index
    gives exactly these in the order of ids. ``few``: an index finds them, in no order, as
    long as they are not too many. ``are_more``: whether they, or others in that index, are more
    than so many. ``keys``: their ids, found in another table by an index in their order.
    ``keeps``: which of some ids really are meant, to be asked last.
    """

    condition: Q
    words: str = ""
    head: str = ""
    in_order: bool = False
    few: bool = False
    are_more: Callable[[int], bool] | None = None
    keys: QuerySet[Any, int] | None = None
    since: datetime | None = None
    until: datetime | None = None
    state: str = ""
    queue: str = ""
    keeps: Callable[[Collection[int]], set[int]] | None = None


def meant(key: str, near: str) -> str:
    """A suggestion, or nothing."""
    return _("Did you mean %(near)s?") % {"near": f"{key}:{near}"} if near else ""
