"""Tasks in the host's admin: list, page of a task, buttons, and an inline for records.

Imported by Django's admin alone, so a host without ``django.contrib.admin`` never loads it.
"""

from tasks.admin.inline import TaskInline
from tasks.admin.rollup import FailedTasksFilter, TaskRollupMixin
from tasks.admin.task_admin import TaskAdmin, TaskAdminMixin

__all__ = ["FailedTasksFilter", "TaskAdmin", "TaskAdminMixin", "TaskInline", "TaskRollupMixin"]
