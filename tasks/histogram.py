"""Durations counted in fixed logarithmic buckets, so that counts of any two rows may be added.

Each bucket ends 2 to the power of ¼ (about 19 %) above the one before, so a quantile is wrong by at
most 9 %: the standard exponential buckets of Prometheus's native histograms with schema 2
(https://prometheus.io/docs/specs/native_histograms/).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

STEPS = 4  # buckets for each doubling
LAST = 128  # 2 ** 32 ms, 49 days
_SMALLEST = 0.001


def upper_bound(number: int) -> float:
    """The longest duration of a bucket, in seconds."""
    return float(_SMALLEST * 2.0 ** (number / STEPS))


_BOUNDS = [upper_bound(number) for number in range(LAST)]


def bucket(seconds: float) -> int:
    """The smallest bucket that holds a duration; the first one also negative ones and NaN."""
    return bisect_left(_BOUNDS, seconds)


class Histogram:
    """How many durations fell into which bucket."""

    __slots__ = ("counts",)

    def __init__(self, counts: Mapping[str, int] | Mapping[int, int] | None = None) -> None:
        self.counts: dict[int, int] = {int(key): n for key, n in (counts or {}).items()}

    def add(self, seconds: float) -> None:
        """Count one duration."""
        number = bucket(seconds)
        self.counts[number] = self.counts.get(number, 0) + 1

    def merge(self, counts: Mapping[str, int] | Mapping[int, int]) -> None:
        """Count what another row counted."""
        for key, n in counts.items():
            number = int(key)
            self.counts[number] = self.counts.get(number, 0) + n

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float | None:
        """Seconds that ``share`` (0 to 1) of the durations did not exceed; None without any."""
        wanted = share * self.count
        seen = 0
        for number in sorted(self.counts):
            seen += self.counts[number]
            if seen >= wanted and seen:
                return upper_bound(number) if number == 0 else upper_bound(number) / 2 ** (1 / 8)
        return None

    @property
    def p50(self) -> float | None:
        """The median, in seconds."""
        return self.quantile(0.5)

    @property
    def p95(self) -> float | None:
        """95 of 100 took at most so many seconds."""
        return self.quantile(0.95)

    def stored(self) -> dict[str, int]:
        """As the JSON column keeps it."""
        return {str(number): self.counts[number] for number in sorted(self.counts)}
