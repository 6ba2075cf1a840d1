"""System checks: what is configured wrongly, with an id and what to do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import connections, models, router
from django.utils.module_loading import import_string

from tasks.alerts import recipients
from tasks.conf import Settings, aftersave_settings, unknown_settings
from tasks.models import Task, TaskRelation
from tasks.models.records import declaring
from tasks.options import wrong_option

ADMIN = "django.contrib.admin"
_READ_COMMITTED = "read committed"


def register() -> None:
    """Hand the checks to Django."""
    checks.register(check_settings)
    checks.register(check_default_queue)
    checks.register(check_hooks)
    checks.register(check_alerts)
    checks.register(check_app_order)
    checks.register(check_record_models, checks.Tags.models)
    checks.register(check_aliases)
    checks.register(check_sqlite)
    checks.register(check_mysql)
    checks.register(check_sockets, deploy=True)


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """E001: names in AFTERSAVE that mean nothing. E002: an alias that does not exist."""
    known = [field.name for field in fields(Settings)]
    found: list[checks.CheckMessage] = []
    for name in unknown_settings():
        close = get_close_matches(name.upper(), known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(known)}."
        found.append(
            checks.Error(f"AFTERSAVE[{name!r}] is unknown.", hint=hint, id="aftersave.E001")
        )
    aliases = {aftersave_settings.session_alias(using) for using in connections}
    for alias in sorted(alias for alias in aliases if alias is not None):
        if alias not in connections:
            found.append(
                checks.Error(
                    f"AFTERSAVE['SESSION_ALIAS'] names {alias!r}, which is not in DATABASES.",
                    hint="Name an alias with a direct connection to the same database, or None.",
                    id="aftersave.E002",
                )
            )
    return found


def check_default_queue(**kwargs: Any) -> list[checks.CheckMessage]:
    """E011: a default queue with a name that no queue can have."""
    wrong = wrong_option(queue=aftersave_settings.DEFAULT_QUEUE)
    if wrong is None:
        return []
    return [
        checks.Error(
            f"AFTERSAVE['DEFAULT_QUEUE'] cannot be used: {wrong}.",
            hint="Give another name, or leave it out: 'default'.",
            id="aftersave.E011",
        )
    ]


def check_hooks(**kwargs: Any) -> list[checks.CheckMessage]:
    """E007: a function named in AFTERSAVE that cannot be imported, or not be called as it is."""
    found: list[checks.CheckMessage] = []
    for name, arguments in (("VISIBLE_TASKS", "user, queryset"), ("MAY", "user, action, task")):
        value = getattr(aftersave_settings, name)
        why = None if value is None else _wrong_hook(value, arguments.split(", "))
        if why:
            found.append(
                checks.Error(
                    f"AFTERSAVE[{name!r}] = {value!r} {why}.",
                    hint=f"Give a plain function ({arguments}), or its dotted path.",
                    id="aftersave.E007",
                )
            )
    return found


def _wrong_hook(value: Any, arguments: list[str]) -> str | None:
    try:
        hook = import_string(value) if isinstance(value, str) else value
    except Exception as error:
        return f"cannot be imported: {error}"
    if not callable(hook):
        return "is not a function"
    if inspect.iscoroutinefunction(hook):
        # What it returns is true, whatever it would have said.
        return "is a coroutine, for which nobody waits"
    try:
        signature = inspect.signature(hook)
    except ValueError:  # a builtin may not tell
        return None
    try:
        signature.bind(*arguments)
    except TypeError as error:
        return f"cannot be called with ({', '.join(arguments)}): {error}"
    return None


def check_alerts(**kwargs: Any) -> list[checks.CheckMessage]:
    """W008: alerts go out by mail, but without a link to the page that shows what happened."""
    if aftersave_settings.BASE_URL or not recipients():
        return []
    return [
        checks.Warning(
            "Alerts are mailed without a link: AFTERSAVE['BASE_URL'] is empty.",
            hint="Set it to where the site is reached from outside: 'https://shop.example.com'.",
            id="aftersave.W008",
        )
    ]


def check_app_order(**kwargs: Any) -> list[checks.CheckMessage]:
    """E003: Channels' own runworker would hide ours."""
    names = [config.name for config in apps.get_app_configs()]
    if (
        "channels" in names
        and "workers" in names
        and names.index("channels") < names.index("workers")
    ):
        return [
            checks.Error(
                "'channels' stands before 'workers' in INSTALLED_APPS, so 'manage.py runworker' "
                "is Channels' command and no task runs.",
                hint="Move 'workers' up. 'runworker CHANNEL' still starts Channels' own worker.",
                id="aftersave.E003",
            )
        ]
    return []


def check_record_models(**kwargs: Any) -> list[checks.CheckMessage]:
    """E004: a model whose key cannot be kept in one column. E010: or not as text. E012: one whose
    relation is hidden by another.
    """
    return [
        *(_unreadable(model) for model in declaring if _is_no_text(model)),
        *_composite(),
        *_hidden(),
    ]


def _is_no_text(model: type[models.Model]) -> bool:
    return isinstance(model._meta.pk, models.BinaryField | models.JSONField)


def _unreadable(model: type[models.Model]) -> checks.CheckMessage:
    return checks.Error(
        f"{model._meta.label} has a TaskRelation and a {type(model._meta.pk).__name__} as its "
        "primary key.",
        hint="Tasks keep the key as text, and this one cannot be read back from it: nobody would "
        "find the record of a task. Give the model a key of another kind.",
        obj=model,
        id="aftersave.E010",
    )


def _composite() -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f"{model._meta.label} has a TaskRelation and a composite primary key.",
            hint="Tasks keep one key as text: give the model a primary key of one column.",
            obj=model,
            id="aftersave.E004",
        )
        for model in declaring
        if len(getattr(model._meta, "pk_fields", [0])) > 1
    ]


def _hidden() -> list[checks.CheckMessage]:
    return [
        checks.Error(
            f"{model._meta.label}.{name} is a TaskRelation, but a relation from another model has "
            "the same name and hides it.",
            hint="Give the other model's foreign key another related_name, or the TaskRelation "
            "another name.",
            obj=model,
            id="aftersave.E012",
        )
        for model, name in declaring.items()
        if not isinstance(getattr(model, name, None), TaskRelation)
    ]


def check_aliases(**kwargs: Any) -> list[checks.CheckMessage]:
    """E005: a database with records but without our tables or content types."""
    from django.contrib.contenttypes.models import ContentType

    found: list[checks.CheckMessage] = []
    for using in connections:
        records = [model for model in declaring if router.allow_migrate_model(using, model)]
        for needed in (Task, ContentType):
            if records and not router.allow_migrate_model(using, needed):
                found.append(_missing(using, records[0], needed))
    return found


def _missing(
    using: str, record: type[models.Model], needed: type[models.Model]
) -> checks.CheckMessage:
    return checks.Error(
        f"{record._meta.label} may live on database {using!r}, {needed._meta.label} may not, so "
        "its tasks cannot be written in its transaction.",
        hint=f"Let the database router migrate '{needed._meta.app_label}' on {using!r} too.",
        id="aftersave.E005",
    )


def check_sqlite(**kwargs: Any) -> list[checks.CheckMessage]:
    """W006: SQLite options with which several processes would meet 'database is locked'."""
    found: list[checks.CheckMessage] = []
    for using, options in _databases("sqlite3"):
        missing = []
        if str(options.get("transaction_mode", "")).upper() != "IMMEDIATE":
            missing.append("'transaction_mode': 'IMMEDIATE'")
        if "wal" not in str(options.get("init_command", "")).lower():
            missing.append("'init_command': 'PRAGMA journal_mode=WAL'")
        if options.get("timeout", 0) < 5:
            missing.append("'timeout': 20")
        if missing:
            found.append(
                checks.Warning(
                    f"Database {using!r} is SQLite without {', '.join(missing)}.",
                    hint="Add it to OPTIONS, or several processes meet 'database is locked'.",
                    id="aftersave.W006",
                )
            )
    return found


def check_mysql(**kwargs: Any) -> list[checks.CheckMessage]:
    """W013: transactions on MariaDB or MySQL that do not see what was committed meanwhile."""
    found: list[checks.CheckMessage] = []
    for using, options in _databases("mysql"):
        level = options.get("isolation_level", _READ_COMMITTED)
        if str(level).lower() != _READ_COMMITTED:
            found.append(
                checks.Warning(
                    f"Database {using!r} has the isolation level {level!r}, so what others did "
                    "while one waited for a lock is not seen, and may be overwritten.",
                    hint="Leave it out of OPTIONS: Django's own is 'read committed'.",
                    id="aftersave.W013",
                )
            )
    return found


def _databases(engine: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The aliases of databases of this kind, with what stands in their OPTIONS."""
    for using in connections:
        configuration = settings.DATABASES[using]
        if configuration.get("ENGINE", "").endswith(engine):
            yield using, configuration.get("OPTIONS", {})


def check_sockets(**kwargs: Any) -> list[checks.CheckMessage]:
    """W009: the site is served by ASGI, but nothing takes the sockets of the live pages."""
    if not (getattr(settings, "ASGI_APPLICATION", None) and apps.is_installed(ADMIN)):
        return []
    from tasks.dashboard.live.routing import takes_sockets

    try:
        takes = takes_sockets(import_string(settings.ASGI_APPLICATION))
    except Exception as error:
        takes, why = False, f" cannot be imported: {error}"
    else:
        why = " has no place for the sockets of the live pages, which look every 2 seconds instead"
    if takes is not False:
        return []
    return [
        checks.Warning(
            f"ASGI_APPLICATION = {settings.ASGI_APPLICATION!r}{why}.",
            hint='Add "websocket": live to its ProtocolTypeRouter, with '
            "`from tasks.dashboard.live.routing import live`.",
            id="aftersave.W009",
        )
    ]
