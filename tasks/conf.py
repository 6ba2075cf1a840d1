"""The settings of Aftersave: one lazy object, every default visible here."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from tasks.exceptions import InvalidSetting

SAME_ALIAS = "same"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``settings.AFTERSAVE`` with the defaults filled in. Sizes are bytes, times are seconds."""

    AUTODISCOVER: bool | list[str] = True
    DEFAULT_QUEUE: str = "default"
    MAX_ATTEMPTS: int = 5
    BACKOFF_BASE: float = 5.0
    BACKOFF_MAX: float = 3600.0
    DATA_LIMIT: int = 1024 * 1024
    RESULT_LIMIT: int = 1024 * 1024
    TRACEBACK_LIMIT: int = 32 * 1024
    LOG_LINE_LIMIT: int = 8 * 1024
    LOG_LINES: int = 500
    HEARTBEAT_LIMIT: float = 30.0
    GRACE: float = 25.0
    SESSION_ALIAS: str | dict[str, str | None] | None = SAME_ALIAS
    KEEP_COMPLETED: timedelta | None = timedelta(days=14)
    KEEP_CANCELLED: timedelta | None = timedelta(days=14)
    KEEP_FAILED: timedelta | None = None
    KEEP_WORKERS: timedelta | None = timedelta(days=1)
    KEEP_FIGURES: timedelta | None = timedelta(days=400)
    BASE_URL: str = ""
    RELEASE: str = ""
    VISIBLE_TASKS: str | Callable[..., Any] | None = None
    MAY: str | Callable[..., Any] | None = None
    ALERT_TO: list[str] | None = None
    ALERT_OLDEST_DUE: float | dict[str, float] | None = 600.0

    def __post_init__(self) -> None:
        hints = get_type_hints(Settings)
        for field in fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            if not _fits(value, hint) or not _is_possible(field.name, value):
                kind = hint.__name__ if isinstance(hint, type) else hint
                raise InvalidSetting(
                    f"AFTERSAVE[{field.name!r}] = {value!r} cannot be used: it must be {kind}"
                    f"{_BOUNDS.get(field.name, '')}."
                )

    def session_alias(self, using: str) -> str | None:
        """The alias of the direct connection that listens and locks for ``using``, or None."""
        alias = self.SESSION_ALIAS
        if isinstance(alias, dict):
            alias = alias.get(using, SAME_ALIAS)
        return using if alias == SAME_ALIAS else alias


#: Smallest values; sizes, times and periods not named here may be anything from 0.
_BOUNDS = {
    "MAX_ATTEMPTS": ", at least 1",
    "HEARTBEAT_LIMIT": ", above 0",
    "LOG_LINES": ", not negative",
    "ALERT_TO": " of e-mail addresses",
    "ALERT_OLDEST_DUE": ", not negative, by queue where it is a dictionary ('*': all others)",
    "BASE_URL": " that starts with http:// or https://",
}


def _fits(value: Any, hint: Any) -> bool:
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return any(_is_a(value, option) for option in options)


def _is_a(value: Any, kind: Any) -> bool:
    kind = get_origin(kind) or kind
    if kind in (int, float):
        allowed = (int,) if kind is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, kind)


def _is_possible(name: str, value: Any) -> bool:
    if name == "MAX_ATTEMPTS":
        return bool(value >= 1)
    if name == "BASE_URL":
        return not value or value.startswith(("http://", "https://"))
    if name == "ALERT_TO":
        return value is None or all(isinstance(to, str) and "@" in to for to in value)
    if isinstance(value, dict) and name == "ALERT_OLDEST_DUE":
        return all(
            isinstance(queue, str) and _is_a(limit, float) and limit >= 0
            for queue, limit in value.items()
        )
    if isinstance(value, timedelta):
        return value >= timedelta(0)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return value > 0 if name == "HEARTBEAT_LIMIT" else value >= 0


def unknown_settings() -> list[str]:
    """Names in ``settings.AFTERSAVE`` that Aftersave does not know."""
    known = {field.name for field in fields(Settings)}
    return sorted(set(_given()) - known)


def _given() -> dict[str, Any]:
    given = getattr(django_settings, "AFTERSAVE", {})
    if not isinstance(given, dict):
        raise InvalidSetting(f"AFTERSAVE must be a dictionary, not {type(given).__name__}.")
    return given


class _LazySettings:
    """Reads ``settings.AFTERSAVE`` at the first use, and again after a test changed it."""

    _loaded: Settings | None = None

    def __getattr__(self, name: str) -> Any:
        if self._loaded is None:
            unknown = set(unknown_settings())
            self._loaded = Settings(**{k: v for k, v in _given().items() if k not in unknown})
        return getattr(self._loaded, name)

    def forget(self) -> None:
        self._loaded = None


def _forget_when_changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "AFTERSAVE":
        aftersave_settings.forget()


aftersave_settings = _LazySettings()
setting_changed.connect(_forget_when_changed, dispatch_uid="aftersave.settings")
