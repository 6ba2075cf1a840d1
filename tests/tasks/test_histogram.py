import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.histogram import LAST, Histogram, bucket, upper_bound

durations = st.floats(min_value=0.002, max_value=30 * 86400)


@given(durations)
def test_a_duration_lies_in_the_smallest_bucket_that_holds_it(seconds: float) -> None:
    number = bucket(seconds)
    assert seconds <= upper_bound(number) * 1.000001
    assert seconds >= upper_bound(number - 1) * 0.999999


@given(st.lists(durations, min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_quantile_is_wrong_by_at_most_a_tenth(seconds: list[float], share: float) -> None:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    assert histogram.quantile(share) == pytest.approx(exact, rel=0.1)


@given(st.lists(durations, max_size=30), st.lists(durations, max_size=30))
def test_two_histograms_add_up_to_that_of_all(first: list[float], second: list[float]) -> None:
    parts = [Histogram(), Histogram()]
    whole = Histogram()
    for part, seconds in zip(parts, (first, second), strict=True):
        for one in seconds:
            part.add(one)
            whole.add(one)
    parts[0].merge(parts[1].stored())
    assert parts[0].stored() == whole.stored()
    assert Histogram(whole.stored()).p95 == whole.p95


@pytest.mark.parametrize("odd", [0.0, -5.0, float("nan"), 1e-9])
def test_nothing_negative_and_no_nan_is_longer_than_a_millisecond(odd: float) -> None:
    assert bucket(odd) == 0


def test_what_takes_for_ever_is_in_the_last_bucket() -> None:
    assert bucket(1e12) == LAST


def test_without_durations_there_is_no_quantile() -> None:
    assert Histogram().p50 is None
    assert Histogram().p95 is None
