"""The settings of Aftersave: one lazy object, every default visible here."""

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

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

    def session_alias(self, using: str) -> str | None:
        """The alias of the direct connection that listens and locks for ``using``, or None."""
        alias = self.SESSION_ALIAS
        if isinstance(alias, dict):
            alias = alias.get(using, SAME_ALIAS)
        return using if alias == SAME_ALIAS else alias


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
