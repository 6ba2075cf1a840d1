"""The states of a task."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class State(models.TextChoices):
    """What a task is doing; the last three are final."""

    WAITING = "waiting", _("waiting for others")
    SCHEDULED = "scheduled", _("scheduled")
    RUNNING = "running", _("running")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


FINAL = (State.COMPLETED, State.FAILED, State.CANCELLED)
LIVE = (State.WAITING, State.SCHEDULED, State.RUNNING)
