"""What a term of a search comes to."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet
from django.utils.translation import gettext as _

from tasks.dashboard.grammar import quoted


class NoMeaning(ValueError):
    """A term that cannot be looked for; the message says why and what to do.

    ``instead``: what may have been meant, each a search that can stand in its place.
    """

    def __init__(self, why: str, *instead: str) -> None:
        super().__init__(why)
        self.instead = instead


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


def only_one(key: str, values: str) -> NoMeaning:
    """For ``values`` with commas between them, where one value alone can stand."""
    each = [value.strip() for value in values.split(",") if value.strip()]
    text = _("After “%(key)s:” stands one value alone, not several with commas.")
    return NoMeaning(text % {"key": key}, *(f"{key}:{quoted(value)}" for value in each))


def meant(key: str, near: str) -> str:
    """A suggestion, or nothing."""
    return _("Did you mean %(near)s?") % {"near": f"{key}:{near}"} if near else ""
