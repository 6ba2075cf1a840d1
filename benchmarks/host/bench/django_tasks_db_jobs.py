"""Imported by django-tasks-db's worker by its path."""

from django_tasks import task


@task()
def noop(**data: object) -> None:
    pass
