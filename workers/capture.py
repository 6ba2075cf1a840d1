"""What a handler says through ``logging`` shows on its task's page, from INFO up."""

from __future__ import annotations

import logging

from tasks.handlers import current_task

#: The engine's own talk, and SQL, are not the handler's.
_NOT_THE_HANDLERS = ("tasks", "workers", "django.db")


class TaskLog(logging.Handler):
    """Hands records logged inside a handler to the task that runs there."""

    def emit(self, record: logging.LogRecord) -> None:
        task = current_task.get()
        if task is None or _is_ours(record.name):
            return
        try:
            task.log(record.getMessage(), level=record.levelno)
        except Exception:
            self.handleError(record)


class _AsBefore(logging.Filter):
    """Keeps from a handler what it did not see before the root logger's level was lowered."""

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= self.level:
            return True
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and logger.parent is not None:
            if logger.level:
                return True
            logger = logger.parent
        return False


def _is_ours(name: str) -> bool:
    return any(name == own or name.startswith(f"{own}.") for own in _NOT_THE_HANDLERS)


def capture_logging() -> None:
    """Install the capture on the root logger; what other handlers print stays the same."""
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        # Python falls back to it only while the root logger has no handler at all.
        root.addHandler(logging.lastResort)
    if root.level > logging.INFO:
        as_before = _AsBefore(root.level)
        for handler in {*root.handlers, *_handlers_below_root()}:
            handler.addFilter(as_before)
        root.setLevel(logging.INFO)
    root.addHandler(TaskLog(logging.INFO))


def _handlers_below_root() -> list[logging.Handler]:
    loggers = list(logging.Logger.manager.loggerDict.values())
    return [h for known in loggers if isinstance(known, logging.Logger) for h in known.handlers]
