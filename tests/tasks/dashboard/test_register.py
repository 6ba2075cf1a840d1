"""Two admin sites in one project: each has the pages, its own staff and its own addresses."""

import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from tasks import dashboard, enqueue
from tasks.admin import TaskAdmin
from tasks.models import Task
from tests.hosts.two_sites import partners
from tests.tasks.admin_rows import staff, text_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.hosts.two_sites")]


def partner() -> Client:
    """Somebody of the second site, who is not staff of the first."""
    user = User.objects.create_user("pat")
    user.groups.add(Group.objects.create(name="partners"))
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="tasks"))
    client = Client()
    client.force_login(user)
    return client


def own_links(response: Any) -> set[str]:
    """Addresses that the page itself names, without those of the admin around it."""
    root = text_of(response).split('id="af-root"')[1]
    return {
        link
        for link in re.findall(r'(?:href|formaction|action)="(/[^"]*)"', root)
        if not link.startswith("/static/")
    }


def test_the_second_site_shows_the_pages_to_its_own_staff_only() -> None:
    task = enqueue("shop.do")
    client = partner()
    assert client.get("/partners/tasks/task/").status_code == 200
    assert client.get(f"/partners/tasks/task/{task.pk}/change/").status_code == 200
    refused = client.get("/admin/tasks/task/")
    assert refused.status_code == 302
    assert refused["Location"].startswith("/admin/login/")

    colleague = staff("view_task")
    assert colleague.get("/admin/tasks/task/").status_code == 200
    elsewhere = colleague.get("/partners/tasks/task/")
    assert elsewhere.status_code == 302
    assert elsewhere["Location"].startswith("/partners/login/")


@pytest.mark.parametrize(
    "page", ["", "overview/", "incidents/", "activity/", "search/?q=nothing", "{task}/change/"]
)
def test_links_and_buttons_of_a_page_stay_on_its_site(page: str) -> None:
    task = enqueue("shop.do")
    client = partner()
    response = client.get("/partners/tasks/task/" + page.format(task=task.pk))
    assert response.status_code == 200
    links = own_links(response)
    assert links
    assert {link for link in links if not link.startswith("/partners/")} == set()


def test_a_button_of_the_second_site_needs_that_site() -> None:
    task = enqueue("shop.do")
    address = f"/partners/tasks/task/{task.pk}/cancel/"
    reason = {f"reason-cancel-{task.pk}": "not wanted", "version": "scheduled-0-0"}
    assert staff("view_task", "cancel_task").post(address, reason).status_code == 302
    task.refresh_from_db()
    assert task.state == "scheduled"
    assert partner().post(address, reason)["Location"].startswith("/partners/")


def test_registering_a_site_twice_changes_nothing() -> None:
    known = partners._registry[Task]
    dashboard.register(partners)
    assert partners._registry[Task] is known


def test_options_become_attributes_of_the_sites_own_admin() -> None:
    site = admin.AdminSite(name="third")
    dashboard.register(site, list_per_page=7)
    registered = site._registry[Task]
    assert isinstance(registered, TaskAdmin)
    assert registered.list_per_page == 7
