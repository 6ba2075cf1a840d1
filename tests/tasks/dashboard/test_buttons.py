"""Which buttons a person is shown, and what stands beside them."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.template.loader import render_to_string
from django.test import RequestFactory

from tasks import enqueue, handler
from tasks.dashboard.buttons import done_word, skipped_text
from tasks.dashboard.shown_buttons import selected_buttons, shown_buttons
from tasks.dashboard.versions import versions
from tasks.dashboard.viewer import Viewer
from tasks.models import Task, TaskEvent
from tests.tasks.admin_rows import EVERYTHING, LIST, in_state, staff
from tests.tasks.tools import finish, start

pytestmark = pytest.mark.django_db

ALL = (*EVERYTHING, "bulk_task", "export_task", "manage_incident")
SHOWN = {
    "waiting": ["change_data", "cancel"],
    "later": ["run_now", "change_data", "cancel"],
    "due": ["change_data", "cancel"],
    "retrying": ["run_now", "change_data", "cancel"],
    "running": [],
    "failed": ["retry", "change_data", "complete"],
    "completed": ["run_again", "change_data"],
    "cancelled": ["retry", "change_data", "complete"],
}


def viewer(*rights: str) -> Viewer:
    user = User.objects.create_user(f"user{User.objects.count()}", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(content_type__app_label="tasks", codename__in=rights)
    )
    request = RequestFactory().get("/")
    request.user = User.objects.get(pk=user.pk)
    return Viewer(request, admin.site)


def names(person: Viewer, task: Task) -> list[str]:
    return [button.name for button in shown_buttons(person, [task])[task.pk]]


def html(template: str, **context: object) -> str:
    return render_to_string(f"tasks/dashboard/parts/{template}.html", context)


@pytest.mark.parametrize("state", SHOWN)
def test_each_state_has_its_buttons(state):
    assert names(viewer(*ALL), in_state(state)) == SHOWN[state]


@pytest.mark.parametrize(
    ("right", "lost"),
    [
        ("retry_task", {"retry", "run_again"}),
        ("run_task_now", {"run_now"}),
        ("cancel_task", {"cancel"}),
        ("complete_task", {"complete"}),
        ("change_task_data", {"change_data"}),
        ("view_task_data", {"change_data"}),
        ("view_task", {"retry", "run_again", "run_now", "cancel", "complete", "change_data"}),
    ],
)
def test_who_lacks_a_right_sees_no_button_for_it(right, lost):
    person = viewer(*(other for other in ALL if other != right))
    for state, expected in SHOWN.items():
        assert names(person, in_state(state)) == [name for name in expected if name not in lost]


def test_the_host_may_forbid_an_action_for_one_task(settings):
    refund, other = in_state("failed", "shop.refund"), in_state("failed")
    settings.AFTERSAVE = {
        "MAY": lambda user, action, task: (action, task.name) != ("retry", "shop.refund")
    }
    person = viewer(*ALL)
    assert names(person, refund) == ["change_data", "complete"]
    assert names(person, other) == SHOWN["failed"]


def test_the_buttons_of_many_tasks_cost_no_more_queries_than_those_of_one(
    django_assert_max_num_queries,
):
    tasks = [enqueue("shop.do") for _ in range(30)]
    for task in tasks:
        enqueue("shop.after", after=[task])
        task.cancel(by="eve")
        task.retry(by="eve")
    person = viewer(*ALL)
    names(person, in_state("due"))  # permissions are read once
    rows = list(Task.objects.filter(type="shop", action="do"))
    with django_assert_max_num_queries(4):
        shown = shown_buttons(person, rows)
    assert all(len(shown[task.pk]) == 2 for task in tasks)


def test_cancel_lists_the_tasks_that_wait_and_counts_those_one_may_not_know(settings):
    task = enqueue("shop.do")
    waiting = [enqueue("shop.after", after=[task]), enqueue("secret.after", after=[task])]
    settings.AFTERSAVE = {"VISIBLE_TASKS": lambda user, tasks: tasks.filter(type="shop")}
    task.refresh_from_db()
    cancel = shown_buttons(viewer(*ALL), [task])[task.pk][-1]
    assert "2 tasks wait for this and are cancelled too" in cancel.says
    assert [name for name, url in cancel.waiting] == [f"shop.after #{waiting[0].pk}"]
    assert "and 1 more" in html("button", button=cancel)


def test_mark_as_done_says_what_goes_on_because_of_it():
    task = enqueue("shop.do")
    later = enqueue("shop.after", after=[task])
    finish(task, "failed")
    complete = shown_buttons(viewer(*ALL), [task])[task.pk][-1]
    assert "1 task waits for this and goes on" in complete.says
    assert complete.waiting == [
        (f"shop.after #{later.pk}", f"/admin/tasks/task/{later.pk}/change/")
    ]


def test_mark_as_done_says_what_goes_on_waiting_for_others():
    done, open_one, withdrawn = [enqueue("shop.do") for _ in range(3)]
    enqueue("shop.after", after=[done, open_one])
    for task in (done, open_one):
        finish(task, "failed")
    person = viewer(*ALL)
    complete = {task: shown_buttons(person, [task])[task.pk][-1].says for task in (done, open_one)}
    assert set(complete.values()) == {
        "It is not run: it counts as done. 1 task waits for this, but for others too, and goes on "
        "waiting:"
    }
    enqueue("shop.free", after=[done])
    last = enqueue("shop.free", after=[done, withdrawn])
    withdrawn.cancel()
    last.refresh_from_db()
    last.retry()  # in spite of what was cancelled: that holds it no more
    assert "Of 3 tasks that wait for this 2 go on, the rest waits for others too" in (
        shown_buttons(person, [done])[done.pk][-1].says
    )


def test_run_again_names_what_it_may_cause():
    handler("shop.mail", repeat="may send the mail twice")(print)
    task = finish(enqueue("shop.mail"))
    (again, _) = shown_buttons(viewer(*ALL), [task])[task.pk]
    assert again.says == "It was done already. Running it again may send the mail twice."
    assert again.needs_reason


def test_run_again_names_what_it_may_cause_for_each_kind_that_can_be_ticked():
    handler("shop.mail", title="Send the mail", repeat="may send the mail twice")(print)
    handler("shop.charge", repeat="charges the card again.")(print)
    handler("shop.other", repeat="is not here")(print)
    done = [finish(enqueue(f"shop.{name}")) for name in ("mail", "charge", "mail", "unknown")]
    person = viewer(*ALL)
    says = {one.name: one.says for one in selected_buttons(person, [*done, in_state("due")])}
    assert says["run_again"] == (
        "They were done already. Running them again does the same once more. "
        "Send the mail: may send the mail twice. shop.charge: charges the card again."
    )
    (again,) = [one for one in selected_buttons(person) if one.name == "run_again"]
    assert again.says.endswith("does the same once more.")
    client = staff(*EVERYTHING)
    assert "may send the mail twice" in client.get(f"{LIST}?q=state:completed").content.decode()


def test_a_version_changes_with_all_that_matters():
    task = in_state("failed")
    seen = {versions([task])[task.pk]}
    for change in (
        lambda: task.retry(by="eve"),
        lambda: start(task),
        lambda: Task.objects.filter(pk=task.pk).update(attempts=7),
        lambda: TaskEvent.objects.create(task=task, action="x"),
    ):
        change()
        task.refresh_from_db()
        seen.add(versions([task])[task.pk])
    assert len(seen) == 5


class TestHTML:
    def test_buttons_point_to_the_one_form_and_have_ids_of_their_task(self):
        task = in_state("failed")
        buttons = shown_buttons(viewer(*ALL), [task])[task.pk]
        for template in ("buttons", "row_buttons"):
            page = html(template, buttons=buttons, task=task)
            address = f"/admin/tasks/task/{task.pk}/retry/"
            buttons_there = re.findall(r"<button ([^>]*)>", page)
            sends = f'formaction="{address}" name="version" value="failed'
            assert any(sends in button for button in buttons_there)
            assert f'id="af-fold-complete-{task.pk}"' in page
            assert f'name="reason-complete-{task.pk}"' in page
            assert f'href="/admin/tasks/task/{task.pk}/data/"' in page
            assert "csrf" not in page
            assert "required>" not in page, "a closed fold would block every button"
            for button in buttons_there:
                assert 'form="af-form"' in button
                assert "formaction=" in button

    def test_ids_are_unique_over_many_rows(self):
        tasks = [in_state(state) for state in SHOWN]
        shown = shown_buttons(viewer(*ALL), tasks)
        for template in ("buttons", "row_buttons"):
            page = "".join(html(template, buttons=shown[t.pk], task=t) for t in tasks)
            ids = [part.split('"')[0] for part in page.split(' id="')[1:]]
            assert len(ids) == len(set(ids)) > 0

    def test_what_a_task_carries_is_text(self):
        handler("shop.evil", title="<script>alert(1)</script>", repeat="<b>twice</b>")(print)
        task = finish(enqueue("shop.evil"))
        buttons = shown_buttons(viewer(*ALL), [task])[task.pk]
        page = html("buttons", buttons=buttons, task=task)
        assert "<script" not in page
        assert "<b>" not in page

    def test_who_may_press_nothing_gets_nothing(self):
        task = in_state("failed")
        buttons = shown_buttons(viewer("view_task"), [task])[task.pk]
        assert html("buttons", buttons=buttons, task=task).strip() == ""
        assert html("row_buttons", buttons=buttons, task=task).strip() == ""
        assert html("selected_buttons", buttons=selected_buttons(viewer("view_task"))).strip() == ""


def test_ticked_rows_have_the_buttons_one_has_the_rights_for():
    assert [b.name for b in selected_buttons(viewer("view_task", "retry_task"))] == [
        "retry",
        "run_again",
    ]
    page = html("selected_buttons", buttons=selected_buttons(viewer(*ALL)))
    assert 'formaction="/admin/tasks/task/selected/cancel/"' in page
    assert 'name="reason-cancel-selected"' in page


def test_why_some_were_skipped_is_said_in_words():
    skipped = {"running": 1, "due": 2, "gone": 1, "unique_key": 3, "forbidden": 1}
    assert skipped_text(skipped) == (
        "2 are due, 1 you may not touch, 1 is deleted, 1 is running, "
        "of 3 other tasks have the unique keys"
    )
    assert skipped_text({}) == ""


def test_what_was_done_has_words_also_for_what_others_record():
    assert done_word("retry") == "retried"
    assert done_word("incident_take") == "incident_take"
