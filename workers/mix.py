"""Which kinds of tasks were claimed lately, so that slots of one do not limit the other."""

from __future__ import annotations

#: So many tasks are remembered, the last ones most.
_MEMORY = 200
#: A kind that was not seen lately is reckoned with as one task in so many.
_RAREST = 1 / 16


class Mix:
    """The shares of tasks for threads and for coroutines among those claimed lately."""

    def __init__(self) -> None:
        self._sync = 0.0
        self._coro = 0.0

    def add(self, sync: int, coro: int) -> None:
        """So many were in a claim that could hold both kinds."""
        self._sync += sync
        self._coro += coro
        fading = min(1.0, _MEMORY / max(1.0, self._sync + self._coro))
        self._sync *= fading
        self._coro *= fading

    def fitting(self, sync: int, coro: int) -> int:
        """How many tasks of either kind to claim while there is room for so many of each.

        Until the mix is known, no more than fit if all are of one kind.
        """
        seen = self._sync + self._coro
        if not seen:
            return min(sync, coro)
        by_threads = sync / max(self._sync / seen, _RAREST)
        by_coroutines = coro / max(self._coro / seen, _RAREST)
        return int(min(by_threads, by_coroutines))
