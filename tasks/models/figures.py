"""Roll-ups, keys to find tasks by, alerts: small tables that answer instead of the big one."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from tasks.models.fields import KeyField
from tasks.models.task import Task
from tasks.names import ACTION_LENGTH, TYPE_LENGTH

SEARCH_KEY_LENGTH = 100
SEARCH_VALUE_LENGTH = 200


class Figure(models.Model):
    """What one process did to the tasks of one name in one queue within ``span`` seconds.

    ``process`` is the worker's id, 0 for longer spans, which sum up all processes, and for what was
    taken from lost workers. A row without type and action holds the sum of its queue; one without a
    queue the sum of everything, and says that the process was there. ``wait`` and ``run`` are
    counts by bucket: ``tasks.histogram``.
    """

    id = models.BigAutoField(primary_key=True)
    start = models.DateTimeField()
    span = models.PositiveIntegerField(default=60)
    process = models.BigIntegerField(default=0)
    queue = KeyField(max_length=64, default="")
    type = KeyField(max_length=TYPE_LENGTH, default="")
    action = KeyField(max_length=ACTION_LENGTH, default="")
    completed = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    retried = models.PositiveIntegerField(default=0)  # attempts that failed and are tried again
    cancelled = models.PositiveIntegerField(default=0)
    wait = models.JSONField(default=dict)
    run = models.JSONField(default=dict)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["span", "start", "process", "queue", "type", "action"],
                name="tasks_figure_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.queue} {self.type}.{self.action} at {self.start:%Y-%m-%d %H:%M}"


class SearchKey(models.Model):
    """A value of the task's data that its handler declared as worth finding."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="search_keys")
    key = KeyField(max_length=SEARCH_KEY_LENGTH)
    value = KeyField(max_length=SEARCH_VALUE_LENGTH)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["key", "value", "task"], name="tasks_search")]

    def __str__(self) -> str:
        return f"{self.key}:{self.value}"


class Alert(models.Model):
    """When operations were told of ``cause``.

    ``sent_at``: when the signal was sent last; None while somebody sets out to do it, since ``at``.
    An ``at`` after it says that the mail did not go out yet, and until when nobody need try.
    """

    id = models.BigAutoField(primary_key=True)
    cause = KeyField(max_length=200)
    at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["cause"], name="tasks_alert_once")]

    def __str__(self) -> str:
        return str(self.cause)
