"""Rows about tasks: what they wait for, what went wrong, what was said, who runs them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks.models.fields import KeyField
from tasks.models.task import Task


class Prerequisite(models.Model):
    """``task`` may not run before ``prerequisite`` is completed."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(
        Task, on_delete=models.CASCADE, related_name="prerequisites", db_index=False
    )
    prerequisite = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="dependents")

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["task", "prerequisite"], name="tasks_prerequisite_once"
            ),
        ]

    def __str__(self) -> str:
        return f"#{self.task_id} after #{self.prerequisite_id}"


class Failure(models.Model):
    """One attempt that failed."""

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="failures")
    attempt = models.PositiveIntegerField()
    worker_id = models.BigIntegerField(null=True)
    started_at = models.DateTimeField(null=True)
    at = models.DateTimeField(default=timezone.now)
    exception = models.CharField(max_length=200)
    message = models.TextField(default="")
    traceback = models.TextField(default="")
    fingerprint = models.CharField(max_length=64, default="")

    class Meta:
        verbose_name = _("failure")
        verbose_name_plural = _("failures")
        default_permissions = ()
        ordering = ["id"]
        indexes = [models.Index(fields=["fingerprint", "at"], name="tasks_failure_same")]

    def __str__(self) -> str:
        return f"attempt {self.attempt}: {self.exception}"


class LogLine(models.Model):
    """One line that a handler logged."""

    #: What the engine itself says when an attempt came to no end.
    WORKER_LOST = "The worker was lost during this attempt; the task goes back to its queue."

    id = models.BigAutoField(primary_key=True)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="log_lines")
    attempt = models.PositiveIntegerField()
    at = models.DateTimeField()
    level = models.SmallIntegerField()
    text = models.TextField()

    class Meta:
        default_permissions = ()
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text


class Queue(models.Model):
    """A named lane. Workers create missing rows; while ``paused_at`` is set nothing is claimed."""

    name = KeyField(max_length=64, primary_key=True)
    paused_at = models.DateTimeField(null=True)
    paused_by = models.CharField(max_length=150, default="")
    paused_reason = models.TextField(default="")

    class Meta:
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        default_permissions = ("view",)
        permissions = [("pause_queue", _("Can pause and resume queues"))]

    def __str__(self) -> str:
        return str(self.name)


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers; each verb narrows to those of which the question is true."""

    def alive(self) -> WorkerQuerySet:
        """Neither stopped nor declared dead."""
        return self.filter(stopped_at__isnull=True, lost_at__isnull=True)


class Worker(models.Model):
    """A process that claims tasks. ``id`` is random, 53 bits, and also its lock's key."""

    id = models.BigIntegerField(primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    queues = models.JSONField(default=list)
    threads = models.PositiveIntegerField()
    coroutines = models.PositiveIntegerField()
    holds_lock = models.BooleanField(default=False)
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now)
    stopped_at = models.DateTimeField(null=True)
    lost_at = models.DateTimeField(null=True)

    objects = WorkerQuerySet.as_manager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
