"""Telling pages only every other second, so that both can be compared within one drain."""

import time
from collections.abc import Callable, Mapping

#: Pages are told in the seconds since 1970 that leave this when they are halved.
TOLD = 1
Tell = Callable[[str, Mapping[str, int]], None]


def by_turns(tell: Tell) -> Tell:
    """``tell``, silent in every other second."""

    def tell_sometimes(using: str, changes: Mapping[str, int]) -> None:
        if int(time.time()) % 2 == TOLD:
            tell(using, changes)

    return tell_sometimes
