"""Tasks that belong to your records: created with them, run after them, shown beside them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.enqueueing import build, enqueue, enqueue_many
    from tasks.handlers import Cancel, Fail, Retry, Snooze, handler
    from tasks.rules import emit, on_create, on_event, on_save

__all__ = [
    "Cancel",
    "Fail",
    "Retry",
    "Snooze",
    "build",
    "emit",
    "enqueue",
    "enqueue_many",
    "handler",
    "on_create",
    "on_event",
    "on_save",
]

_HOMES = {
    "tasks.enqueueing": ("build", "enqueue", "enqueue_many"),
    "tasks.handlers": ("Cancel", "Fail", "Retry", "Snooze", "handler"),
    "tasks.rules": ("emit", "on_create", "on_event", "on_save"),
}


def __getattr__(name: str) -> Any:
    # Lazily: Django imports this package before any model may be imported.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'tasks' has no attribute {name!r}")
