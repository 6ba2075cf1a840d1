import pytest

from workers.sieve import FREE, LONGEST, RESTS, Sieve

QUICK = 0.001


def made(sieve: Sieve, took: float, *, at: float = 100.0, **how: bool) -> float | None:
    """How long it rests after a claim that took so long."""
    sieve.note("crm", at - took, at, **{"chose": True, "is_full": False, **how})
    until = sieve.rests_until(at)
    return None if until is None else until - at


def known() -> Sieve:
    """One that knows how fast a claim can be, and that the last one took long."""
    sieve = Sieve()
    assert made(sieve, QUICK, chose=False) is None
    assert made(sieve, 0.1, at=50.0) is None, "one may be slow by chance"
    return sieve


def test_what_reads_past_many_tasks_takes_a_twentieth_of_the_time() -> None:
    sieve = known()
    assert made(sieve, 0.05) == pytest.approx(RESTS * (0.05 - QUICK - FREE))
    assert sieve.rests_until(100.0 + RESTS * 0.05) is None
    assert RESTS == 20


def test_no_rest_is_longer_than_staff_would_wait() -> None:
    sieve = known()
    made(sieve, 7.0)
    assert made(sieve, 9.0) == LONGEST == 5.0


def test_claims_that_find_what_they_look_for_are_not_slowed_down() -> None:
    sieve = known()
    assert made(sieve, 0.1, is_full=True) is None
    assert made(sieve, 0.1, chose=False) is None


def test_a_slow_network_costs_no_rest() -> None:
    sieve = Sieve()
    assert made(sieve, 0.3) is None
    assert made(sieve, 0.3) is None


def test_a_quick_claim_ends_the_suspicion() -> None:
    sieve = known()
    assert made(sieve, QUICK + FREE) is None
    assert made(sieve, 0.1) is None
