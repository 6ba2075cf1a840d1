"""Every address of the dashboard; all of them hang on TaskAdmin."""

from __future__ import annotations

import pkgutil
from functools import partial
from importlib import import_module
from typing import Any

from django.urls import URLPattern, path

from tasks.dashboard import pages as rooms
from tasks.dashboard.live import http as live
from tasks.dashboard.page import answer, downloads, hand_out, pages, posts, serve

# With the admin itself: a socket may ask for a page before any address was looked up.
for _module in pkgutil.iter_modules(rooms.__path__):
    import_module(f"{rooms.__name__}.{_module.name}")


def urlpatterns(admin: Any) -> list[URLPattern]:
    """The addresses below the list of tasks, each behind ``admin.admin_site.admin_view``."""
    guard = admin.admin_site.admin_view
    return [
        *(
            path(one.path, guard(partial(serve, one, admin)), name=f"tasks_task_{one.name}")
            for one in pages.values()
        ),
        *(
            path(one.path, guard(partial(answer, one, admin)), name=f"tasks_task_{one.name}")
            for one in posts
        ),
        *(
            path(one.path, guard(partial(hand_out, one, admin)), name=f"tasks_task_{one.name}")
            for one in downloads
        ),
        *live.urlpatterns(admin, guard),
    ]
