"""Which queue to claim from next: queues that may have due work take turns."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tasks.bell import LOOK_AGAIN
from tasks.names import OWN


class Lanes:
    """Queues this worker serves; without ``only`` every queue. Aftersave's own it serves anyway."""

    def __init__(self, only: Collection[str] = ()) -> None:
        self._only = frozenset((*only, OWN)) if only else frozenset()
        self._promising: dict[str, None] = {}
        self._again: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._promising)

    def add(self, queues: Iterable[str]) -> None:
        """These may have due work."""
        for queue in queues:
            if not self._only or queue in self._only:
                self._promising.setdefault(queue)

    def rung(self, queues: Collection[str], now: float) -> None:
        """Somebody rang for these; what they commit while silent is found by looking again."""
        self.add(queues)
        self._again.update(dict.fromkeys(queues, now + LOOK_AGAIN))

    def look_again(self, now: float) -> None:
        """Add the queues whose second look has come."""
        self.add([queue for queue, at in self._again.items() if at <= now])
        self._again = {queue: at for queue, at in self._again.items() if at > now}

    def next_look_again(self) -> float | None:
        """When the next second look comes (time.monotonic()), None if none is to come."""
        return min(self._again.values(), default=None)

    def next(self) -> str | None:
        """The queue whose turn it is; it goes to the end of the line."""
        for queue in self._promising:
            del self._promising[queue]
            self._promising[queue] = None
            return queue
        return None

    def empty(self, queue: str) -> None:
        """``queue`` gave less than was asked for."""
        self._promising.pop(queue, None)
