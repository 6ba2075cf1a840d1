"""Names of tasks: a type and an action, joined by the first dot."""

from __future__ import annotations

import re

from tasks.exceptions import InvalidName

TYPE_LENGTH = 60
ACTION_LENGTH = 120
#: Type and queue of Aftersave's own tasks. Every worker serves the queue, and nobody can pause it.
OWN = "aftersave"
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


def split_name(name: str) -> tuple[str, str]:
    """``"email.order.sent"`` → ``("email", "order.sent")``. Raises InvalidName."""
    if not isinstance(name, str):
        raise InvalidName(name, "it is not text")
    if "." not in name:
        raise InvalidName(name, "it has no dot")
    if not _NAME.fullmatch(name):
        raise InvalidName(name, "only letters, digits, '_', '-' and single dots may stand in it")
    type_, action = name.split(".", 1)
    if len(type_) > TYPE_LENGTH or len(action) > ACTION_LENGTH:
        raise InvalidName(
            name, f"type may have {TYPE_LENGTH} characters and action {ACTION_LENGTH}"
        )
    return type_, action
