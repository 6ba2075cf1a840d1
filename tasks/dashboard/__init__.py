"""The pages that customer care and operations keep open, inside Django's admin.

Imported with Django's admin alone: a host without ``django.contrib.admin`` never loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite


def register(site: AdminSite, **options: Any) -> None:
    """Give ``site`` the pages too; Django's default admin site has them without being asked.

    ``options`` are attributes for its TaskAdmin, as in ``AdminSite.register``.
    """
    from tasks.admin import TaskAdmin
    from tasks.models import Task

    if not site.is_registered(Task):
        site.register(Task, TaskAdmin, **options)
