"""What a task is, as rows."""

from tasks.models.facts import Failure, LogLine, Prerequisite, Queue, Worker
from tasks.models.figures import Alert, Figure, SearchKey
from tasks.models.incidents import Incident, IncidentHour
from tasks.models.queryset import TaskQuerySet
from tasks.models.relation import RecordTasks, TaskRelation
from tasks.models.staff import BulkAction, TaskEvent
from tasks.models.states import FINAL, LIVE, State
from tasks.models.task import Task

__all__ = [
    "FINAL",
    "LIVE",
    "Alert",
    "BulkAction",
    "Failure",
    "Figure",
    "Incident",
    "IncidentHour",
    "LogLine",
    "Prerequisite",
    "Queue",
    "RecordTasks",
    "SearchKey",
    "State",
    "Task",
    "TaskEvent",
    "TaskQuerySet",
    "TaskRelation",
    "Worker",
]
