"""Django's admin log: one entry for each thing that somebody did on these pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry

from tasks.dashboard.viewer import Viewer
from tasks.models import Task
from tasks.redact import redact_text


def log(viewer: Viewer, objects: Sequence[Any], text: str) -> None:
    """Write an entry for each of ``objects``, all with the same redacted ``text``."""
    message = redact_text(text)
    if len(objects) == 1:
        admin = viewer.site.get_model_admin(Task)
        admin.log_change(viewer.request, objects[0], message)
    elif objects:
        LogEntry.objects.log_actions(viewer.user.pk, objects, CHANGE, change_message=message)
