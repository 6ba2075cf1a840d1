"""How often tasks of chosen names are claimed: such a claim reads past all tasks of other names."""

from __future__ import annotations

import math

#: So much longer than the fastest one may a claim take without a rest.
FREE = 0.002
#: The rest is so many times what a claim took that found too little, and at most so many seconds.
RESTS = 20
LONGEST = 5.0


class Sieve:
    """Keeps claims of chosen names that find too little to a twentieth of the time.

    While all threads are busy, a claim for the coroutines reads past every task for threads, and
    there may be a million of them. All moments are time.monotonic().
    """

    def __init__(self) -> None:
        self._fastest = math.inf
        self._before: dict[str, float] = {}
        self._rests_until = -math.inf

    def rests_until(self, now: float) -> float | None:
        """When names may be chosen again, None for at once."""
        return self._rests_until if self._rests_until > now else None

    def note(self, queue: str, began: float, ended: float, *, chose: bool, is_full: bool) -> None:
        """A claim was made: it ``chose`` names or took any, and ``is_full`` when it gave all."""
        took = ended - began
        self._fastest = min(self._fastest, took)
        if not chose or is_full:
            return
        # The lower of two: any statement may be slow by chance.
        before, self._before[queue] = self._before.get(queue, 0.0), took
        cost = max(0.0, min(took, before) - self._fastest - FREE)
        self._rests_until = ended + min(LONGEST, RESTS * cost)
