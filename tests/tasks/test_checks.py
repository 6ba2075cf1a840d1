import functools
from typing import Any

import pytest
from django.apps import apps
from django.core.checks import Error, run_checks
from django.db import connections, models
from django.test.utils import isolate_apps

from tasks import checks
from tasks.models import TaskRelation
from tasks.models.records import declaring
from tests.workload.models import Record


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


class Router:
    """Refuses some models on the other database."""

    def __init__(self, *labels: str) -> None:
        self.labels = labels

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == "other" and app_label in self.labels else None


def test_the_example_host_has_nothing_to_complain_about() -> None:
    found = [message for message in run_checks() if str(message.id).startswith("aftersave")]
    assert found == []


def test_every_message_has_a_hint(settings: Any) -> None:
    settings.AFTERSAVE = {"QUEUE": 1, "SESSION_ALIAS": "nowhere"}
    settings.DATABASE_ROUTERS = [Router("tasks")]
    found = [*checks.check_settings(), *checks.check_aliases()]
    assert len(found) >= 3
    assert all(message.hint for message in found)


def test_an_unknown_setting_is_an_error_that_names_the_one_meant(settings: Any) -> None:
    settings.AFTERSAVE = {"MAX_ATTEMPT": 3, "heartbeat_limit": 3, "xyz": 1}
    found = checks.check_settings()
    assert ids(found) == ["aftersave.E001"] * 3
    hints = {message.msg: message.hint for message in found}
    assert hints["AFTERSAVE['MAX_ATTEMPT'] is unknown."] == "Did you mean 'MAX_ATTEMPTS'?"
    assert hints["AFTERSAVE['heartbeat_limit'] is unknown."] == "Did you mean 'HEARTBEAT_LIMIT'?"
    assert "DATA_LIMIT" in str(hints["AFTERSAVE['xyz'] is unknown."])


@pytest.mark.parametrize("value", ["", "a,b", "aftersave", "q" * 65, "two\nlines"])
def test_a_default_queue_that_no_queue_can_be_called_is_an_error(settings: Any, value: str) -> None:
    settings.AFTERSAVE = {"DEFAULT_QUEUE": value}
    found = [message for message in run_checks() if message.id == "aftersave.E011"]
    assert [repr(value) in message.msg for message in found] == [True]


@pytest.mark.parametrize("value", ["nowhere", {"other": "nowhere"}])
def test_a_session_alias_that_does_not_exist_is_one_error(settings: Any, value: Any) -> None:
    settings.AFTERSAVE = {"SESSION_ALIAS": value}
    assert ids(checks.check_settings()) == ["aftersave.E002"]


@pytest.mark.parametrize("value", ["default", None, "same", {"default": None, "other": "other"}])
def test_a_session_alias_that_exists_or_is_off_is_fine(settings: Any, value: Any) -> None:
    settings.AFTERSAVE = {"SESSION_ALIAS": value}
    assert checks.check_settings() == []


@pytest.mark.parametrize(
    ("order", "found"),
    [
        (["tasks", "channels", "workers"], ["aftersave.E003"]),
        (["tasks", "workers", "channels"], []),
        (["tasks", "channels"], []),
        (["tasks", "workers"], []),
    ],
)
def test_channels_before_workers_is_an_error(
    order: list[str], found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [apps.get_app_config(label) for label in order]
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)
    assert ids(checks.check_app_order()) == found


@isolate_apps("tests.workload")
def test_a_composite_key_is_an_error() -> None:
    class Cell(models.Model):
        pk = models.CompositePrimaryKey("row", "column")
        row = models.IntegerField()
        column = models.IntegerField()

        tasks = TaskRelation()

        class Meta:
            app_label = "workload"

        def __str__(self) -> str:
            return f"{self.row}:{self.column}"

    try:
        assert ids(checks.check_record_models()) == ["aftersave.E004"]
        assert checks.check_record_models()[0].obj is Cell
    finally:
        del declaring[Cell]


@pytest.mark.parametrize("field", [models.BinaryField, models.JSONField])
@isolate_apps("tests.workload")
def test_a_record_model_whose_key_is_no_text_is_an_error(field: Any) -> None:
    options = type("Meta", (), {"app_label": "workload"})
    key = field(primary_key=True)
    body = {"id": key, "tasks": TaskRelation(), "Meta": options, "__module__": __name__}
    blob = type(f"Blob{field.__name__}", (models.Model,), body)
    try:
        assert ids(checks.check_record_models()) == ["aftersave.E010"]
        assert checks.check_record_models()[0].obj is blob
    finally:
        del declaring[blob]


@isolate_apps("tests.workload")
def test_a_relation_that_another_one_hides_is_an_error() -> None:
    class Shelf(models.Model):
        tasks = TaskRelation()

        class Meta:
            app_label = "workload"

        def __str__(self) -> str:
            return str(self.pk)

    try:
        assert checks.check_record_models() == []

        class Todo(models.Model):
            shelf = models.ForeignKey(Shelf, models.CASCADE, related_name="tasks")

            class Meta:
                app_label = "workload"

            def __str__(self) -> str:
                return str(self.pk)

        (found,) = checks.check_record_models()
        assert (found.id, found.obj) == ("aftersave.E012", Shelf)
        assert "workload.Shelf.tasks" in found.msg
        assert "related_name" in str(found.hint)
    finally:
        del declaring[Shelf]


@pytest.mark.parametrize(
    ("refused", "found"),
    [
        ((), 0),
        (("tasks",), 1),
        (("contenttypes",), 1),
        (("tasks", "contenttypes"), 2),
        (("tasks", "workload", "orders"), 0),
    ],
)
def test_a_database_with_records_but_without_our_tables_is_an_error(
    settings: Any, refused: tuple[str, ...], found: int
) -> None:
    settings.DATABASE_ROUTERS = [Router(*refused)]
    assert ids(checks.check_aliases()) == ["aftersave.E005"] * found
    assert Record in declaring
    assert all("'other'" in message.msg for message in checks.check_aliases())


SQLITE = "django.db.backends.sqlite3"
GOOD = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=wal;",
    "timeout": 20,
}


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({"ENGINE": SQLITE, "OPTIONS": GOOD}, None),
        ({"ENGINE": "django.db.backends.postgresql"}, None),
        ({"ENGINE": SQLITE}, ["transaction_mode", "init_command", "timeout"]),
        ({"ENGINE": SQLITE, "OPTIONS": {**GOOD, "transaction_mode": "DEFERRED"}}, ["IMMEDIATE"]),
        ({"ENGINE": SQLITE, "OPTIONS": {**GOOD, "timeout": 1}}, ["timeout"]),
        ({"ENGINE": SQLITE, "OPTIONS": {**GOOD, "init_command": ""}}, ["WAL"]),
    ],
)
def test_sqlite_without_the_options_that_several_processes_need_is_a_warning(
    configuration: dict[str, Any], words: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "settings", {"default": {}})
    monkeypatch.setattr("django.conf.settings.DATABASES", {"default": configuration})
    found = checks.check_sqlite()
    assert ids(found) == ([] if words is None else ["aftersave.W006"])
    for word in words or ():
        assert word in found[0].msg


MYSQL = "django.db.backends.mysql"


@pytest.mark.parametrize(
    ("configuration", "complains"),
    [
        ({"ENGINE": MYSQL}, False),
        ({"ENGINE": MYSQL, "OPTIONS": {"isolation_level": "READ COMMITTED"}}, False),
        ({"ENGINE": MYSQL, "OPTIONS": {"isolation_level": "repeatable read"}}, True),
        ({"ENGINE": MYSQL, "OPTIONS": {"isolation_level": None}}, True),  # the server's own
        ({"ENGINE": SQLITE, "OPTIONS": GOOD}, False),
    ],
)
def test_mysql_with_transactions_that_see_old_rows_is_a_warning(
    configuration: dict[str, Any], complains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "settings", {"default": {}})
    monkeypatch.setattr("django.conf.settings.DATABASES", {"default": configuration})
    found = checks.check_mysql()
    assert ids(found) == (["aftersave.W013"] if complains else [])
    assert all("isolation level" in message.msg and message.hint for message in found)


def test_an_unknown_setting_stops_every_command(settings: Any) -> None:
    settings.AFTERSAVE = {"xyz": 1}
    assert isinstance(checks.check_settings()[0], Error)


@pytest.mark.parametrize("value", ["nowhere.to.be.found", "tests.tasks.test_checks.NO_FUNCTION"])
@pytest.mark.parametrize("name", ["VISIBLE_TASKS", "MAY"])
def test_a_function_that_cannot_be_found_is_an_error(settings: Any, name: str, value: str) -> None:
    settings.AFTERSAVE = {name: value}
    found = checks.check_hooks()
    assert [message.id for message in found] == ["aftersave.E007"]
    assert value in found[0].msg
    settings.AFTERSAVE = {name: "tests.tasks.test_checks.any_function"}
    assert checks.check_hooks() == []


NO_FUNCTION = 5


class Sieve:
    """Its method is bound: one argument less is left."""

    def keeps(self, user: Any, action: str, task: Any) -> bool:
        return True


def any_function(*args: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("name", "function", "why"),
    [
        ("MAY", lambda user, action: True, "too many"),
        ("MAY", lambda user, action, task, more: True, "'more'"),
        ("MAY", lambda *, user, action, task: True, "too many"),
        ("VISIBLE_TASKS", lambda user: user, "too many"),
    ],
)
def test_a_function_with_other_arguments_is_an_error(
    settings: Any, name: str, function: Any, why: str
) -> None:
    settings.AFTERSAVE = {name: function}
    (found,) = checks.check_hooks()
    assert found.id == "aftersave.E007"
    assert why in found.msg
    assert "(user, " in str(found.hint)


@pytest.mark.parametrize("name", ["VISIBLE_TASKS", "MAY"])
def test_a_coroutine_that_would_allow_everything_is_an_error(settings: Any, name: str) -> None:
    async def refuse(*args: Any) -> bool:
        return False

    settings.AFTERSAVE = {name: refuse}
    (found,) = checks.check_hooks()
    assert found.id == "aftersave.E007"
    assert "coroutine" in found.msg


@pytest.mark.parametrize(
    "function",
    [
        lambda user, action, task=None: True,
        lambda user, *rest: True,
        print,
        Sieve().keeps,
        functools.partial(lambda more, user, action, task: True, 1),
    ],
)
def test_a_function_that_takes_the_arguments_is_fine(settings: Any, function: Any) -> None:
    settings.AFTERSAVE = {"MAY": function}
    assert checks.check_hooks() == []


@pytest.mark.parametrize(
    ("application", "complains"),
    [
        ("config.asgi.application", False),
        ("tests.tasks.dashboard.asgi_applications.without_sockets", True),
        ("tests.tasks.dashboard.asgi_applications.plain", True),
        ("tests.tasks.dashboard.asgi_applications.with_others", True),
        ("tests.tasks.dashboard.asgi_applications.among_others", False),
        ("tests.tasks.dashboard.asgi_applications.unknown", False),
        ("tests.tasks.dashboard.asgi_applications.missing", True),
        (None, False),
    ],
)
def test_an_asgi_application_without_the_sockets_of_the_pages_is_a_warning(
    settings: Any, application: str | None, complains: bool
) -> None:
    settings.ASGI_APPLICATION = application
    found = checks.check_sockets()
    assert ids(found) == (["aftersave.W009"] if complains else [])
    assert all(message.hint for message in found)
