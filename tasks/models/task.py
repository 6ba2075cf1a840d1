"""The task: one row, one thing to do."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Protocol

from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from tasks.exceptions import RecordGone
from tasks.handlers import Handler, registry
from tasks.models.fields import KeyField, WorkIndex
from tasks.models.queryset import TaskQuerySet
from tasks.models.records import KEY_LENGTH
from tasks.models.states import FINAL, State
from tasks.names import ACTION_LENGTH, TYPE_LENGTH

if TYPE_CHECKING:
    from tasks.models.staff import TaskEvent


class Execution(Protocol):
    """What a worker lends a task while its handler runs."""

    @property
    def lost(self) -> bool: ...

    def log(self, text: str, level: int) -> None: ...

    def progress(self, done: float, total: float | None) -> None: ...


class Task(models.Model):
    """One thing to do, and what became of it. Only ``tasks.enqueueing`` creates rows."""

    State = State

    id = models.BigAutoField(primary_key=True)
    type = KeyField(max_length=TYPE_LENGTH)
    action = KeyField(max_length=ACTION_LENGTH)
    data = models.JSONField(default=dict)
    state = KeyField(max_length=10, choices=State.choices, default=State.SCHEDULED)
    due = models.BooleanField(default=False)
    queue = KeyField(max_length=64)
    priority = models.SmallIntegerField(default=0)
    run_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    max_attempts = models.PositiveIntegerField()
    timeout = models.FloatField(null=True)
    result = models.JSONField(null=True)
    progress_value = models.JSONField(null=True, db_column="progress")
    worker_id = models.BigIntegerField(null=True)
    lease = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    reason = models.TextField(default="")
    fingerprint = models.CharField(max_length=64, default="")
    live_key = KeyField(max_length=255, null=True)
    ordering_key = KeyField(max_length=255, null=True)
    batch = models.BigIntegerField(null=True)
    deadline = models.DateTimeField(null=True)
    cancel_requested_at = models.DateTimeField(null=True)
    has_dependents = models.BooleanField(default=False)
    idempotency_key = models.UUIDField(default=uuid.uuid4)
    context = models.JSONField(default=dict)
    content_type = models.ForeignKey(
        ContentType,
        null=True,
        db_index=False,
        db_constraint=False,
        on_delete=models.DO_NOTHING,
        related_name="+",
    )
    object_id = KeyField(max_length=KEY_LENGTH, null=True)

    objects = TaskQuerySet.as_manager()

    _execution: Execution | None = None
    _runnable_at: float | None = None  # run_at in seconds since 1970, where a claim left run_at out
    _after: tuple[Task, ...] = ()

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        default_permissions = ("view",)
        permissions = [
            ("view_task_data", _("Can see data, results, logs and tracebacks of tasks")),
            ("retry_task", _("Can retry tasks")),
            ("cancel_task", _("Can cancel tasks")),
            ("complete_task", _("Can mark tasks as done")),
            ("change_task_data", _("Can change the data of tasks")),
            ("run_task_now", _("Can run tasks before their time")),
            ("bulk_task", _("Can act on all tasks that match a search")),
            ("export_task", _("Can export lists of tasks")),
        ]
        indexes = [
            WorkIndex(
                fields=["queue", "-priority", "run_at", "id"],
                where={"state": "scheduled", "due": True},
                name="tasks_claim",
            ),
            WorkIndex(
                fields=["run_at"], where={"state": "scheduled", "due": False}, name="tasks_later"
            ),
            WorkIndex(
                fields=["id"],
                where={"state": "scheduled", "due": False, "attempts__gt": 0},
                name="tasks_retrying",
            ),
            WorkIndex(fields=["worker_id"], where={"state": "running"}, name="tasks_running"),
            WorkIndex(fields=["id"], where={"state": "failed"}, name="tasks_failed"),
            WorkIndex(
                fields=["fingerprint", "id"], where={"state": "failed"}, name="tasks_fingerprint"
            ),
            WorkIndex(fields=["id"], where={"state": "waiting"}, name="tasks_waiting"),
            WorkIndex(fields=["finished_at"], where={"state": "cancelled"}, name="tasks_cancelled"),
            models.Index(fields=["content_type", "object_id"], name="tasks_record"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["live_key"], name="tasks_live_key"),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in State]), name="tasks_known_state"
            ),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in FINAL], finished_at__isnull=False)
                | Q(state__in=["waiting", "scheduled", "running"], finished_at__isnull=True),
                name="tasks_finished_iff_final",
            ),
            models.CheckConstraint(
                condition=~Q(state="running") | Q(worker_id__isnull=False),
                name="tasks_running_has_worker",
            ),
            models.CheckConstraint(
                condition=Q(due=False) | Q(state="scheduled"), name="tasks_due_is_scheduled"
            ),
            models.CheckConstraint(
                condition=Q(live_key__isnull=True)
                | Q(state__in=["waiting", "scheduled", "running"]),
                name="tasks_live_key_only_live",
            ),
            models.CheckConstraint(
                condition=Q(content_type__isnull=True, object_id__isnull=True)
                | Q(content_type__isnull=False, object_id__isnull=False),
                name="tasks_record_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} #{self.pk}"

    @property
    def name(self) -> str:
        """``type.action``."""
        return f"{self.type}.{self.action}"

    @property
    def handler(self) -> Handler | None:
        """The handler registered in this process for the name, or None."""
        return registry.get(self.name)

    @property
    def title(self) -> str:
        """What staff read: the handler's title, else the name."""
        known = self.handler
        # A host may have it translated when it is shown.
        return str(known.title) if known and known.title else self.name

    @property
    def shown_state(self) -> str:
        """The word on pages and in the API: ``scheduled`` is due, later or retrying."""
        if self.state != State.SCHEDULED:
            return str(self.state)
        if self.due:
            return "due"
        return "retrying" if self.attempts else "later"

    @property
    def record(self) -> Any:
        """The record that owns the task, or None if none does. Raises RecordGone if deleted."""
        if self.content_type_id is None:
            return None
        if "_record" not in self.__dict__:
            self.__dict__["_record"] = self._load_record()
        return self.__dict__["_record"]

    def _load_record(self) -> models.Model:
        using = self._state.db
        content_types = ContentType.objects.db_manager(using)
        try:
            content_type = content_types.get_for_id(self.content_type_id or 0)
        except ContentType.DoesNotExist:
            raise RecordGone(self) from None
        model = content_type.model_class()
        if model is None:
            raise RecordGone(self)
        record = model._base_manager.using(using).filter(pk=self.object_id).first()
        if record is None:
            raise RecordGone(self)
        return record

    def record_is_gone(self) -> bool:
        """Whether the task had a record that exists no more; one query."""
        if self.content_type_id is None:
            return False
        try:
            self._load_record()
        except RecordGone:
            return True
        return False

    @property
    def cancelled(self) -> bool:
        """In a handler: whether its work is not wanted any more. Ask now and then in long loops."""
        return self._execution.lost if self._execution else self.state == State.CANCELLED

    def log(self, text: object, *, level: int = 20) -> None:
        """Write a line to the task's log, at once and whatever becomes of the transaction.

        ``level`` is one of ``logging``'s numbers.
        """
        if self._execution is not None:
            self._execution.log(str(text), level)
            return
        from tasks.text import clean_line

        self.log_lines.create(
            attempt=self.attempts, level=level, text=clean_line(str(text)), at=timezone.now()
        )

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how far the handler is: ``done`` of ``total`` of whatever it counts."""
        if self._execution is not None:
            self._execution.progress(done, total)
        self.progress_value = {"done": done, "total": total}

    def retry(self, *, by: object = None, reason: str = "") -> None:
        """Run a finished task again, with as many attempts more as it was created with.

        ``by`` is a user or text. Raises TransitionRefused unless it is failed, cancelled or
        completed, and UniqueKeyTaken.
        """
        from tasks import actions

        actions.retry(self, by=by, reason=reason)

    def run_again(self, *, reason: str, by: object = None) -> None:
        """Retry a completed task: what it did is done once more.

        Raises TransitionRefused in any other state, ReasonMissing, and UniqueKeyTaken.
        """
        from tasks import actions

        actions.run_again(self, by=by, reason=reason)

    def run_now(self, *, by: object = None, reason: str = "") -> None:
        """Make a task due that waits for its time or for its next attempt.

        A paused queue still holds it. Raises TransitionRefused in any other state.
        """
        from tasks import actions

        actions.run_now(self, by=by, reason=reason)

    def change_data(
        self, data: dict[str, Any], *, reason: str, by: object = None, retry: bool = False
    ) -> None:
        """Replace the data of a task that is not running, and ``retry`` it if it is finished.

        The old data is kept: see ``restore``. A completed task takes other data only with
        ``retry``. Raises InvalidTask when the data cannot be stored or its handler's ``validate``
        refuses it, TransitionRefused, ReasonMissing, and UniqueKeyTaken.
        """
        from tasks import actions

        actions.change_data(self, data, by=by, reason=reason, retry=retry)

    def restore(self, event: TaskEvent, *, by: object = None, reason: str = "") -> None:
        """Bring back the data that the task had before ``event``, one of its ``events``.

        Raises NothingToRestore, and TransitionRefused while it runs or when it is completed.
        """
        from tasks import actions

        actions.restore(self, event, by=by, reason=reason)

    def cancel(self, *, by: object = None, reason: str = "") -> None:
        """Withdraw a waiting or scheduled task, and all that wait for it.

        Raises TransitionRefused in any other state.
        """
        from tasks import actions

        actions.cancel(self, by=by, reason=reason)

    def complete(self, *, by: object = None, reason: str = "") -> None:
        """Mark a failed or cancelled task as done elsewhere; what waited for it goes on.

        Raises TransitionRefused in any other state.
        """
        from tasks import actions

        actions.complete(self, by=by, reason=reason)
