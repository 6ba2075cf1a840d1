"""Incidents: failed tasks that failed the same way, and what staff decided about them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks.models.fields import KeyField
from tasks.names import ACTION_LENGTH, TYPE_LENGTH


class Incident(models.Model):
    """All tasks that failed with one fingerprint. ``failures`` counts them since it was first seen.

    Which of them are still failed is asked of the tasks themselves.
    """

    class Status(models.TextChoices):
        OPEN = "open", _("open")
        TAKEN = "taken", _("taken")
        MUTED = "muted", _("muted")
        RESOLVED = "resolved", _("resolved")

    id = models.BigAutoField(primary_key=True)
    fingerprint = models.CharField(max_length=64, unique=True)  # compared with Task's: same type
    type = KeyField(max_length=TYPE_LENGTH)
    action = KeyField(max_length=ACTION_LENGTH)
    exception = models.CharField(max_length=200, default="")
    message = models.TextField(default="")  # of the newest failure, one line
    status = KeyField(max_length=10, choices=Status.choices, default=Status.OPEN)
    failures = models.BigIntegerField(default=0)
    newest_task_id = models.BigIntegerField(null=True)
    first_seen_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    first_release = models.CharField(max_length=100, default="")
    reopened_at = models.DateTimeField(null=True)
    reopened_release = models.CharField(max_length=100, default="")
    resolved_at = models.DateTimeField(null=True)
    taken_by = models.CharField(max_length=150, default="")
    note = models.TextField(default="")
    link = models.CharField(max_length=500, default="")
    muted_until = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        default_permissions = ()
        permissions = [("manage_incident", _("Can take, mute and resolve incidents"))]
        indexes = [models.Index(fields=["status", "last_seen_at"], name="tasks_incident_newest")]

    def __str__(self) -> str:
        return f"{self.name}: {self.exception}"

    @property
    def name(self) -> str:
        """``type.action`` of its tasks."""
        return f"{self.type}.{self.action}"


class IncidentHour(models.Model):
    """How many tasks failed with the incident's fingerprint in the hour that begins at ``hour``."""

    id = models.BigAutoField(primary_key=True)
    incident = models.ForeignKey(
        Incident, on_delete=models.CASCADE, related_name="hours", db_index=False
    )
    hour = models.DateTimeField()
    failures = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["incident", "hour"], name="tasks_incident_hour")
        ]

    def __str__(self) -> str:
        return f"{self.failures} at {self.hour:%Y-%m-%d %H:00}"
