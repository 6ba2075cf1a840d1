"""Admin sites by name, for whoever knows no more of a site: sockets and bulk actions."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings
from django.contrib.admin import AdminSite, site
from django.contrib.admin.sites import all_sites

from tasks.models import Task


def site_named(name: str) -> AdminSite | None:
    """The admin site of this name on which tasks are registered; Django's own wins, None if none.

    A host may make its sites where it makes its addresses, which a worker has not read: then they
    are read first.
    """
    found = _loaded(name)
    if found is None:
        import_module(settings.ROOT_URLCONF)
        found = _loaded(name)
    return found


def _loaded(name: str) -> AdminSite | None:
    for one in (site, *all_sites):
        if one.name == name and one.is_registered(Task):
            return one
    return None
