"""Who is shown the same: one rendering serves all of them, so it must not serve anybody else."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import Permission, User
from django.test import RequestFactory

from orders.models import Order
from tasks import enqueue
from tasks.bulk import scope_of
from tasks.dashboard.live.hub import _key
from tasks.dashboard.live.tickets import Ticket
from tasks.dashboard.viewer import Viewer

pytestmark = pytest.mark.django_db

BACKENDS = (
    "django.contrib.auth.backends.ModelBackend",
    "tests.tasks.dashboard.test_likeness.CancelsByName",
)


class CancelsByName(BaseBackend):
    """Grants a right that it does not list."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return perm == "tasks.cancel_task" and user_obj.get_username() == "boss"


class Seat:
    """As much of a socket as says which page it follows."""

    def __init__(self, viewer: Viewer, page: str, query: str) -> None:
        self.viewer = viewer
        user = str(viewer.user.pk)
        self.ticket = Ticket("admin", page, {}, query, user, "", "en-us", "/", "UTC")


@pytest.fixture
def orders_admin() -> Iterator[Any]:
    """How the host shows orders, to be changed by a test."""
    registered: Any = admin.site.get_model_admin(Order)
    yield registered
    for name in ("get_queryset", "has_view_permission", "has_change_permission"):
        registered.__dict__.pop(name, None)


def viewer(name: str, *rights: str) -> Viewer:
    user, _created = User.objects.get_or_create(username=name, is_staff=True)
    codenames = ("view_task", *rights)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    request = RequestFactory().get("/")
    request.user = User.objects.get(pk=user.pk)
    return Viewer(request, admin.site)


def test_two_with_the_same_rights_share() -> None:
    assert viewer("ann").likeness == viewer("bo").likeness
    assert viewer("ann").likeness != viewer("bo", "retry_task").likeness


def test_a_right_that_a_backend_grants_without_listing_it_is_not_shared(settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = BACKENDS
    boss, other = viewer("boss"), viewer("other")
    assert ModelBackend().get_all_permissions(boss.user) == other.user.get_all_permissions()
    assert boss.has("cancel_task")
    assert not other.has("cancel_task")
    assert boss.likeness != other.likeness


def by_queue(user: Any, tasks: Any) -> Any:
    """Two filters that say the same where values stand in a statement without quotes."""
    return tasks.filter(queue__in=["a, b"] if user.get_username() == "bo" else ["a", "b"])


def test_filters_that_read_the_same_without_quotes_are_different_scopes(settings: Any) -> None:
    settings.AFTERSAVE = {"VISIBLE_TASKS": by_queue}
    ann, bo = viewer("ann"), viewer("bo")
    assert str(bo.tasks.query) == str(ann.tasks.query)
    assert ann.scope != bo.scope
    assert ann.likeness != bo.likeness
    assert scope_of(ann) != scope_of(bo)
    assert viewer("ann").scope == ann.scope


def test_a_model_that_the_host_shows_to_one_alone_is_not_shared(orders_admin: Any) -> None:
    def is_ann(request: Any, obj: Any = None) -> bool:
        return bool(request.user.get_username() == "ann")

    orders_admin.has_view_permission = orders_admin.has_change_permission = is_ann
    assert viewer("ann").likeness != viewer("bo").likeness
    assert viewer("bo").likeness == viewer("cy").likeness


def test_where_the_host_cannot_say_what_it_shows_nothing_is_shared(orders_admin: Any) -> None:
    orders_admin.has_view_permission = lambda request, obj=None: request.tenant.is_open
    assert viewer("ann").likeness != viewer("bo").likeness


@pytest.mark.parametrize(
    ("page", "query", "is_shared"),
    [
        ("changelist", "", True),
        ("changelist", "q=state%3Afailed+queue%3Acrm", True),
        ("changelist", "q=record%3A1042", False),
        ("changelist", "q=1042", False),
        ("record", "", False),
        ("overview", "span=day", True),
    ],
)
def test_what_the_hosts_own_search_answers_is_not_shared(
    page: str, query: str, *, is_shared: bool
) -> None:
    enqueue("shop.do")
    keys = {_key(Seat(viewer(name), page, query)) for name in ("ann", "bo")}  # type: ignore[arg-type]
    assert (len(keys) == 1) is is_shared
