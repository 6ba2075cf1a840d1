"""Staff and tasks for the tests of the admin pages."""

import re
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

from tasks import enqueue
from tasks.models import Failure, State, Task
from tests.tasks.tools import finish, start

LIST = "/admin/tasks/task/"
EVERYTHING = (
    "view_task",
    "view_task_data",
    "retry_task",
    "cancel_task",
    "complete_task",
    "run_task_now",
    "change_task_data",
    "pause_queue",
)


def page_of(task: Task) -> str:
    return f"{LIST}{task.pk}/change/"


def button_of(task: Task, name: str) -> str:
    return f"{LIST}{task.pk}/{name}/"


def staff(*rights: str, name: str = "ann") -> Client:
    """A browser in which a member of staff with these rights on tasks is signed in."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="tasks", codename__in=rights)
    )
    client = Client()
    client.force_login(user)
    return client


def in_state(shown: str, name: str = "shop.do", **options: Any) -> Task:
    """A task that is shown in this state."""
    if shown == "waiting":
        return enqueue(name, after=[enqueue("shop.before")], **options)
    if shown in ("later", "retrying"):
        task = enqueue(name, delay=3600, **options)
        if shown == "retrying":
            Task.objects.filter(pk=task.pk).update(attempts=2)
            task.refresh_from_db()
        return task
    task = enqueue(name, **options)
    if shown == "running":
        return start(task)
    if shown in ("failed", "completed"):
        return finish(task, State(shown), reason="it broke" if shown == "failed" else "")
    if shown == "cancelled":
        task.cancel(reason="not wanted")
    assert task.shown_state == shown
    return task


def failed(name: str = "shop.do", *, message: str = "", traceback: str = "", **more: Any) -> Task:
    """A task that failed, with the row of its last failure."""
    task = in_state("failed", name, **more)
    Failure.objects.create(
        task=task, attempt=1, exception="shop.Broken", message=message, traceback=traceback
    )
    return task


def text_of(response: Any) -> str:
    return str(response.content.decode())


def shown_ids(response: Any) -> list[int]:
    """Ids of the tasks in a list page, in order."""
    return [
        int(key)
        for key in re.findall(r'<tr class="af-row[^>]* id="af-task-(\d+)"', text_of(response))
    ]


def messages_of(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]
