"""What staff did: to tasks, queues and incidents, one by one and in bulk."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks.models.fields import KeyField, WorkIndex
from tasks.models.incidents import Incident
from tasks.models.task import Task


class BulkAction(models.Model):
    """One action on every task that matched a search when it was pressed.

    Covered are the tasks with ids up to ``highest_id`` that matched at ``created_at``; ``cursor``
    is the id below which nothing was looked at yet (it goes down), None before the first chunk.
    ``token`` is the form's that started it: one form starts one. ``scope`` is equal for people who
    see the same tasks. ``rate`` is how many tasks a second were done lately, up to
    ``progressed_at``.
    """

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(
        Task, null=True, on_delete=models.SET_NULL, related_name="+"
    )  # the one that performs it
    action = models.CharField(max_length=40)
    query = models.TextField(default="")  # the search, as in the list's address
    reason = models.TextField(default="")
    who = models.CharField(max_length=150, default="")
    user_id = models.CharField(max_length=64, default="")  # whose rights are checked per chunk
    site = models.CharField(max_length=100, default="admin")
    scope = models.CharField(max_length=64, default="")
    token = models.UUIDField(null=True, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    highest_id = models.BigIntegerField(default=0)
    expected = models.BigIntegerField(default=0)
    expected_is_exact = models.BooleanField(default=True)
    per_second = models.FloatField(null=True)  # throttle; None: as fast as it goes
    cursor = models.BigIntegerField(null=True)
    looked_at = models.BigIntegerField(default=0)
    done = models.BigIntegerField(default=0)
    rate = models.FloatField(default=0)
    progressed_at = models.DateTimeField(null=True)
    skipped = models.JSONField(default=dict)  # why → how many
    paused_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    stopped_because = models.TextField(default="")

    class Meta:
        verbose_name = _("bulk action")
        verbose_name_plural = _("bulk actions")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.action} × {self.expected}"


class TaskEvent(models.Model):
    """What a person or a program did to a task, a queue or an incident, and why.

    ``difference`` is what was changed, redacted, for people; ``before`` is the old data as it was,
    for *Restore*, and is never shown. ``ended``: how the task had ended that it made run again, or
    end otherwise, see ``tasks.transitions.end_of``. ``bulk`` is the bulk action that did it to one
    of many tasks; ``about`` the one that somebody started, paused or cancelled.
    """

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, null=True, on_delete=models.CASCADE, related_name="events")
    queue = KeyField(max_length=64, default="")
    incident = models.ForeignKey(
        Incident, null=True, on_delete=models.SET_NULL, related_name="events"
    )
    bulk = models.ForeignKey(
        BulkAction, null=True, on_delete=models.CASCADE, related_name="events", db_index=False
    )
    about = models.ForeignKey(
        BulkAction, null=True, on_delete=models.CASCADE, related_name="story", db_index=False
    )
    at = models.DateTimeField(default=timezone.now)
    who = models.CharField(max_length=150, default="")
    action = models.CharField(max_length=40)
    reason = models.TextField(default="")
    difference = models.JSONField(null=True)
    before = models.JSONField(null=True)
    ended = models.JSONField(null=True)

    class Meta:
        default_permissions = ()
        ordering = ["id"]
        indexes = [
            WorkIndex(fields=["id"], where={"bulk__isnull": True}, name="tasks_event_alone"),
            WorkIndex(fields=["id"], where={"about__isnull": False}, name="tasks_event_about"),
            models.Index(fields=["bulk", "id"], name="tasks_event_bulk"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.who or 'code'}"
