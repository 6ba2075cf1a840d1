import asyncio
from datetime import timedelta

import pytest

from tasks import Retry, handler
from tasks.exceptions import DuplicateHandler, InvalidHandler, InvalidName
from tasks.handlers import registry
from tasks.names import split_name


def perform(task: object) -> None:
    pass


def perform_otherwise(task: object) -> None:
    pass


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("email.send", ("email", "send")),
        ("email.order.sent", ("email", "order.sent")),
        ("a-b_c.1", ("a-b_c", "1")),
        ("t" * 60 + "." + "a" * 120, ("t" * 60, "a" * 120)),
    ],
)
def test_a_name_is_split_at_its_first_dot(name: str, parts: tuple[str, str]) -> None:
    assert split_name(name) == parts


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("email", "no dot"),
        ("", "no dot"),
        (".send", "letters"),
        ("email.", "letters"),
        ("email..send", "letters"),
        ("e mail.send", "letters"),
        ("email.send\n", "letters"),
        ("émail.send", "letters"),
        ("email.\x00", "letters"),
        ("t" * 61 + ".send", "60 characters"),
        ("email." + "a" * 121, "120"),
        (5, "not text"),
        (None, "not text"),
    ],
)
def test_a_bad_name_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why) as caught:
        split_name(name)
    assert repr(name) in str(caught.value)


def test_the_decorator_gives_the_function_back_and_registers_it() -> None:
    given = handler("math.add", queue="crm", title="Add", atomic=True)(perform)
    assert given is perform
    known = registry.get("math.add")
    assert known is not None
    assert (known.function, known.queue, known.title, known.atomic) == (
        perform,
        "crm",
        "Add",
        True,
    )


def test_two_functions_with_one_name_are_refused_naming_both() -> None:
    handler("math.add")(perform)
    with pytest.raises(DuplicateHandler) as caught:
        handler("math.add")(perform_otherwise)
    assert "test_handlers.perform " in str(caught.value)
    assert "test_handlers.perform_otherwise" in str(caught.value)


def test_the_same_function_may_be_registered_again_after_a_reload() -> None:
    handler("math.add")(perform)
    handler("math.add", queue="crm")(perform)
    assert registry.get("math.add").queue == "crm"  # type: ignore[union-attr]


def test_one_function_may_perform_two_names() -> None:
    handler("math.add")(handler("math.plus")(perform))
    assert {"math.add", "math.plus"} <= set(registry.names(is_async=False))


def test_a_coroutine_is_known_as_async_and_cannot_be_atomic() -> None:
    async def later(task: object) -> None:
        await asyncio.sleep(0)

    handler("crm.fetch")(later)
    assert "crm.fetch" in registry.names(is_async=True)
    assert "crm.fetch" not in registry.names(is_async=False)
    with pytest.raises(InvalidHandler, match="coroutine"):
        handler("crm.other", atomic=True)(later)
    assert registry.get("crm.other") is None


@pytest.mark.parametrize(
    "option", [{"max_attempts": 0}, {"timeout": 0}, {"timeout": -1}, {"backoff": -1}]
)
def test_options_that_make_no_sense_are_refused_at_the_decorator(option: dict[str, int]) -> None:
    with pytest.raises(InvalidHandler, match=next(iter(option))):
        handler("math.add", **option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "option",
    [
        {"runbook": "wiki/crm"},
        {"runbook": "javascript:alert(1)"},
        {"search": ["customer id"]},
        {"search": ["a." * 60 + "a"]},
        {"search": [f"key{number}" for number in range(11)]},
        {"search": ["customer.password"]},
        {"validate": "orders.check"},
        {"title": 5},
        {"on_failure": 3},
        {"repeat": ["may send the mail twice"]},
    ],
)
def test_options_for_people_that_cannot_work_are_refused(option: dict[str, object]) -> None:
    with pytest.raises(InvalidHandler, match=next(iter(option))):
        handler("math.add", **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["validate", "backoff"])
def test_a_coroutine_is_refused_where_nobody_would_wait_for_it(option: str) -> None:
    async def check(value: object) -> None:
        raise ValueError(value)

    with pytest.raises(InvalidHandler, match=f"{option}=.*a plain function"):
        handler("math.add", **{option: check})  # type: ignore[arg-type]


def test_options_for_people_are_kept() -> None:
    handler(
        "math.add",
        on_failure="Ask the customer.",
        runbook="https://wiki.example.com/add",
        repeat="may add twice",
        search=["customer.id", "number"],
        validate=perform,
    )(perform)
    known = registry.get("math.add")
    assert known is not None
    assert known.search == ("customer.id", "number")
    assert known.validate is perform
    assert (known.on_failure, known.repeat) == ("Ask the customer.", "may add twice")


def test_a_bad_name_is_refused_at_the_decorator() -> None:
    with pytest.raises(InvalidName):
        handler("add")


def test_the_wait_doubles_with_each_failure_and_half_of_it_is_random() -> None:
    handler("math.add", backoff=8)(perform)
    known = registry.get("math.add")
    assert known is not None
    for attempt, step in ((1, 8), (2, 16), (3, 32)):
        waits = {known.delay_after(attempt) for _ in range(50)}
        assert len(waits) > 1
        assert all(step / 2 <= wait <= step for wait in waits)


def test_the_wait_has_a_ceiling_however_many_attempts(settings: object) -> None:
    settings.AFTERSAVE = {"BACKOFF_BASE": 5, "BACKOFF_MAX": 60}  # type: ignore[attr-defined]
    handler("math.add")(perform)
    assert 30 <= registry.get("math.add").delay_after(10_000) <= 60  # type: ignore[union-attr]


def test_a_function_may_decide_the_wait_but_not_into_the_past() -> None:
    handler("math.add", backoff=lambda attempt: 10 - 20 * attempt)(perform)
    assert registry.get("math.add").delay_after(1) == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("after", [60, 60.0, timedelta(minutes=1)])
def test_retry_takes_seconds_or_a_timedelta(after: float | timedelta) -> None:
    assert Retry(after=after).after == 60


def test_retry_into_the_past_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Retry(after=-1)
