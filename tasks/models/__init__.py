"""What a task is, as rows."""

from tasks.models.facts import Failure, LogLine, Prerequisite, Queue, TaskEvent, Worker
from tasks.models.queryset import TaskQuerySet
from tasks.models.relation import RecordTasks, TaskRelation
from tasks.models.states import FINAL, LIVE, State
from tasks.models.task import Task

__all__ = [
    "FINAL",
    "LIVE",
    "Failure",
    "LogLine",
    "Prerequisite",
    "Queue",
    "RecordTasks",
    "State",
    "Task",
    "TaskEvent",
    "TaskQuerySet",
    "TaskRelation",
    "Worker",
]
