"""Mistakes are refused where they are made, with nothing written."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tasks import build, emit, enqueue_many, handler, on_event
from tasks.conf import Settings, aftersave_settings
from tasks.exceptions import InvalidHandler, InvalidSetting, InvalidTask
from tasks.models import Task
from tests.workload.models import Record


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HEARTBEAT_LIMIT", "30"),
        ("HEARTBEAT_LIMIT", 0),
        ("GRACE", None),
        ("GRACE", -1),
        ("KEEP_COMPLETED", 14),
        ("KEEP_FAILED", timedelta(days=-1)),
        ("MAX_ATTEMPTS", 0),
        ("MAX_ATTEMPTS", True),
        ("AUTODISCOVER", "shop"),
        ("DATA_LIMIT", 1.5),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_value(
    settings: Any, name: str, value: object
) -> None:
    settings.AFTERSAVE = {name: value}
    with pytest.raises(InvalidSetting, match=name):
        aftersave_settings.GRACE  # noqa: B018


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("MAX_ATTEMPTS", "9", "int, at least 1"), ("KEEP_FAILED", 14, "datetime.timedelta | None")],
)
def test_a_setting_that_cannot_be_used_says_what_it_must_be(
    name: str, value: Any, kind: str
) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Settings(**{name: value})
    assert str(refused.value).endswith(f"it must be {kind}.")


def test_every_default_can_be_used() -> None:
    assert Settings(SESSION_ALIAS={"default": None}, KEEP_FAILED=timedelta(0), BACKOFF_BASE=1)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 99999},
        {"priority": 1.5},
        {"queue": ""},
        {"queue": "a,b"},
        {"queue": 5},
        {"max_attempts": "3"},
        {"timeout": float("nan")},
        {"timeout": timedelta(seconds=1)},
    ],
    ids=str,
)
def test_an_option_is_refused_by_the_handler_and_by_the_task(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidHandler, match=next(iter(options))):
        handler("math.add", **options)(print)
    with pytest.raises(InvalidTask, match=next(iter(options))):
        build("math.add", using="default", **options)


@pytest.mark.parametrize("backoff", ["x", timedelta(seconds=1), -1, float("nan")], ids=str)
def test_a_backoff_that_is_no_number_of_seconds_is_refused(backoff: Any) -> None:
    with pytest.raises(InvalidHandler, match="backoff"):
        handler("math.add", backoff=backoff)(print)


@pytest.mark.parametrize(
    "options",
    [
        {"delay": "60"},
        {"run_at": "2026-01-01"},
        {"run_at": date(2026, 1, 1)},
        {"run_at": datetime(2026, 1, 1, tzinfo=UTC), "delay": 1},
        {"max_attempts": 2**40},
        {"record": 5},
    ],
    ids=str,
)
def test_a_task_that_cannot_be_meant_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask):
        build("math.add", **options)


@pytest.mark.django_db
def test_one_task_where_a_list_is_asked_for_is_told_so() -> None:
    first = build("math.add")
    with pytest.raises(InvalidTask, match="a list"):
        build("math.add", after=first)
    with pytest.raises(InvalidTask, match="build"):
        enqueue_many(["math.add"])  # type: ignore[list-item]
    assert not Task.objects.exists()


@pytest.mark.parametrize("method", ["create", "get_or_create", "bulk_create", "update_or_create"])
def test_a_records_manager_creates_no_task_behind_our_back(method: str) -> None:
    tasks = Record(pk=1).tasks
    with pytest.raises(InvalidTask, match="enqueue"):
        getattr(tasks, method)(type="math", action="add")


def test_a_generator_is_no_handler() -> None:
    def yields(task: Task) -> Any:
        yield

    async def yields_too(task: Task) -> Any:
        yield

    for function in (yields, yields_too):
        with pytest.raises(InvalidHandler, match="yield"):
            handler("math.add")(function)


def test_an_object_with_an_async_call_is_an_async_handler() -> None:
    class Adder:
        async def __call__(self, task: Task) -> None: ...

    adder = Adder()
    adder.__qualname__ = "adder"  # type: ignore[attr-defined]
    handler("math.object")(adder)
    from tasks.handlers import registry

    found = registry.get("math.object")
    assert found is not None
    assert found.is_async
    registry.remove("math.object")


@pytest.mark.django_db
def test_a_payload_may_use_any_name() -> None:
    seen: list[dict[str, Any]] = []

    @on_event("refusals.any_name")
    def rule(record: object, /, **payload: Any) -> None:
        seen.append(payload)

    emit("refusals.any_name", None, rules=1, name="n", record="r")
    assert seen == [{"rules": 1, "name": "n", "record": "r"}]
