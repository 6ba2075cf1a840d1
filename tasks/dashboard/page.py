"""What every page of the dashboard is: an address, a context, and parts that can be sent anew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.utils import Error as DatabaseError
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    QueryDict,
)
from django.template import Context
from django.template.loader import get_template
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from tasks.dashboard.live.facts import live_facts
from tasks.dashboard.viewer import Viewer
from tasks.locks import is_busy
from tasks.models import Task

#: Answers a POST: ``(viewer, request, **arguments of the path)``.
Action = Callable[..., HttpResponse]


@dataclass(frozen=True)
class Post:
    """A button's address: POST alone, and only for who may enter."""

    path: str
    name: str
    action: Action


@dataclass(frozen=True)
class Download:
    """The address of a file: GET alone, and only for who has ``right``."""

    path: str
    name: str
    right: str
    action: Action


#: Every address that changes something, filled by ``post``.
posts: list[Post] = []

#: Every address that gives a file, filled by ``download``.
downloads: list[Download] = []

#: Pages by name, as they stand in addresses and tickets. Filled by the class statement.
pages: dict[str, type[Page]] = {}


@dataclass
class Rendering:
    """What a page looks like now."""

    parts: dict[str, str] = field(default_factory=dict)  # element id → HTML
    rows: dict[str, str] = field(default_factory=dict)  # the same for single rows
    here: list[int] | None = None  # ids of the tasks in the list, in its order
    lost: list[int] = field(default_factory=list)  # ids of tasks that were shown and are no more
    note: str = ""


class Page(ABC):
    """A page as one viewer sees it. What it shows depends on ``viewer.likeness``, ``arguments``
    (of the address) and ``query`` alone, so that equal viewers share one rendering.

    A subclass sets ``name``, ``path``, ``template`` and ``parts``. A part is an element with an
    ``id``; its template renders that element whole. The page's own template includes the same
    templates with the same context.
    """

    name: ClassVar[str] = ""
    path: ClassVar[str] = ""  # below the list's address, as for django.urls.path
    template: ClassVar[str] = ""
    parts: ClassVar[Mapping[str, str]] = {}  # element id → template
    #: Parts that still move above a hundred changes a second.
    numbers: ClassVar[frozenset[str]] = frozenset()
    #: The part with the rows that a reader ticks and opens: they stay where they are while others
    #: come and go. ``context()["rows"]`` holds them, each with the ``id`` of its task, and
    #: ``row_template`` renders ``row`` as the element ``af-task-<id>``.
    rows_part: ClassVar[str] = ""
    row_template: ClassVar[str] = ""
    right: ClassVar[str] = "view_task"
    tab: ClassVar[str] = ""  # overview, tasks, incidents or activity

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.name:
            pages[cls.name] = cls

    def __init__(self, viewer: Viewer, arguments: Mapping[str, Any], query: QueryDict) -> None:
        self.viewer = viewer
        self.arguments = arguments
        self.query = query

    @property
    @abstractmethod
    def title(self) -> str:
        """What the tab and the heading say."""

    @abstractmethod
    def context(self) -> dict[str, Any]:
        """What the templates read, asked of the database anew. Raises Http404, PermissionDenied."""

    def elsewhere(self) -> str:
        """Where the person is sent instead of being shown the page; empty: nowhere."""
        return ""

    def queues(self) -> Collection[str] | None:
        """Changes in which queues concern the page; None: in any."""
        return None

    def left_rows(self, ids: Collection[int], context: Mapping[str, Any]) -> Sequence[Any]:
        """Rows of tasks that a reader still has before them though they no longer fit."""
        return []

    def note(self, context: Mapping[str, Any]) -> str:
        """What the tab says before its title, "3 failed"; "" for nothing."""
        return ""

    def render(self, shown: Collection[int] = (), *, numbers_only: bool = False) -> Rendering:
        """What is sent to readers who have the rows of the tasks ``shown`` before them."""
        context = {**self.shared_context(), **self.context()}
        rendering = Rendering(note=self.note(context))
        wanted = self.numbers if numbers_only else self.parts
        if self.rows_part in wanted:
            rendering.here = [row.id for row in context["rows"]]
            left = self.left_rows(set(shown) - set(rendering.here), context)
            rows = (*context["rows"], *left)
            for row in rows:
                html = self._render(self.row_template, {**context, "row": row})
                rendering.rows[f"af-task-{row.id}"] = html
            rendering.lost = sorted(set(shown) - {row.id for row in rows})
            ready = (rendering.rows[f"af-task-{task_id}"] for task_id in rendering.here)
            context["ready_rows"] = mark_safe("".join(ready))
        for element, template in self.parts.items():
            if element in wanted:
                rendering.parts[element] = self._render(template, context)
        return rendering

    def _render(self, template: str, context: Mapping[str, Any]) -> str:
        # As in a first paint {% url %} must lead to the viewer's own admin site, without a request.
        bound = Context(dict(context), use_l10n=False)  # as base.html does
        bound.request = SimpleNamespace(current_app=self.viewer.site.name)  # type: ignore[attr-defined]
        compiled: Any = get_template(template)
        return str(compiled.template.render(bound))

    def shared_context(self) -> dict[str, Any]:
        """What the templates of every page read."""
        return {"page": self, "viewer": self.viewer, "site_name": self.viewer.site.name}

    def url(self) -> str:
        """The address without its query."""
        return page_url(self.viewer, self.name, **self.arguments)


def page_url(viewer: Viewer, name: str, /, **arguments: Any) -> str:
    """The address of a page on the viewer's admin site."""
    return reverse(
        f"admin:tasks_task_{name}", kwargs=arguments or None, current_app=viewer.site.name
    )


def list_url(viewer: Viewer, search: str) -> str:
    """The list of tasks with ``search`` in its box."""
    return f"{page_url(viewer, 'changelist')}?{urlencode({'q': search})}"


def serve(page: type[Page], admin: Any, request: HttpRequest, **arguments: Any) -> HttpResponse:
    """Answer GET with the whole page."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    viewer = Viewer(request, admin.admin_site)
    if not (viewer.may_enter and viewer.has(page.right)):
        raise PermissionDenied
    shown = page(viewer, arguments, request.GET)
    request.current_app = admin.admin_site.name
    elsewhere = shown.elsewhere()
    return HttpResponseRedirect(elsewhere) if elsewhere else respond(shown, request)


def respond(shown: Page, request: HttpRequest, **more: Any) -> HttpResponse:
    """The whole page; ``more`` for its templates."""
    admin = shown.viewer.site.get_model_admin(Task)
    own = {**shown.shared_context(), **shown.context()}
    context = {
        **admin.admin_site.each_context(request),
        **own,
        "live": live_facts(shown, request, own),
        "title": shown.title,
        "subtitle": None,
        "opts": admin.opts,
        "media": admin.media,
        **more,
    }
    return TemplateResponse(request, shown.template, context)


def post(path: str, name: str) -> Callable[[Action], Action]:
    """Register what answers a POST to ``path`` (below the list's address).

    The function checks the right of its own action, does it, and redirects.
    """

    def register(action: Action) -> Action:
        posts.append(Post(path, name, action))
        return action

    return register


def download(path: str, name: str, right: str) -> Callable[[Action], Action]:
    """Register what answers GET to ``path`` with a file, for who has ``right``."""

    def register(action: Action) -> Action:
        downloads.append(Download(path, name, right, action))
        return action

    return register


def hand_out(one: Download, admin: Any, request: HttpRequest, **arguments: Any) -> HttpResponse:
    """Answer GET with a file; everything else is refused."""
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD"])
    viewer = Viewer(request, admin.admin_site)
    if not (viewer.may_enter and viewer.has(one.right)):
        raise PermissionDenied
    return one.action(viewer, request, **arguments)


def answer(one: Post, admin: Any, request: HttpRequest, **arguments: Any) -> HttpResponse:
    """Answer POST; everything else is refused."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    viewer = Viewer(request, admin.admin_site)
    if not viewer.may_enter:
        raise PermissionDenied
    request.current_app = admin.admin_site.name
    try:
        return one.action(viewer, request, **arguments)
    except DatabaseError as error:
        say(request, messages.WARNING, busy_text(error))
    return back(viewer, request, page_url(viewer, "changelist"))


def busy_text(error: DatabaseError) -> str:
    """What to say where others were in the way of a POST, which is one transaction or none.

    Raises every other ``error``.
    """
    if not is_busy(error):
        raise error
    return _(
        "Nothing was done: the database was busy with what others were doing. Please try again."
    )


def back(viewer: Viewer, request: HttpRequest, fallback: str) -> HttpResponse:
    """Redirect to the page the person came from (the form's ``next``), or to ``fallback``."""
    wanted = request.POST.get("next", "")
    here = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return HttpResponseRedirect(wanted if here else fallback)


def say(request: HttpRequest, level: int, text: str | SafeString) -> None:
    """Show ``text`` on the next page."""
    messages.add_message(request, level, text)
