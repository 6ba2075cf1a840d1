import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from orders.admin import OrderAdmin
from orders.models import Order
from tasks.dashboard.counting import count
from tasks.models import BulkAction, Failure, Incident, State, Task, TaskEvent
from tests.tasks.admin_rows import LIST, failed, in_state, messages_of, staff, text_of
from tests.tasks.tools import finish
from workers.testing import run_tasks

pytestmark = pytest.mark.django_db(transaction=True)

RIGHTS = ("view_task", "bulk_task", "retry_task", "cancel_task")
START = f"{LIST}bulk/start/"


def preview(client: Client, action: str = "retry", q: str = "state:failed", **more: str) -> Any:
    return client.get(f"{LIST}bulk/new/?{urlencode({'action': action, 'q': q, **more})}")


def fields(response: Any) -> dict[str, str]:
    """What the browser would send: the form's fields as they are filled in."""
    form = re.search(
        r'<form method="post" action="[^"]*/bulk/start/".*?</form>', text_of(response), re.S
    )
    assert form, "no form on the page"
    inputs = re.findall(r"<input[^>]*>", form[0])
    pairs = [
        (re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)) for tag in inputs
    ]
    return {name[1]: value[1] if value else "" for name, value in pairs if name}


def press(client: Client, shown: Any, **changed: str) -> Any:
    return client.post(START, {**fields(shown), **changed}, follow=True)


def many(count: int) -> None:
    Task.objects.bulk_create(
        Task(
            type="shop",
            action="do",
            state=State.FAILED,
            queue="default",
            run_at="2026-01-01T00:00Z",
            finished_at="2026-01-01T00:00Z",
            max_attempts=1,
        )
        for _ in range(count)
    )


# The preview


def test_the_preview_names_the_number_and_five_examples_and_changes_nothing() -> None:
    tasks = [failed() for _ in range(7)]
    shown = text_of(preview(staff(*RIGHTS)))
    assert "Retry 7 tasks" in shown
    assert "failed tasks" in shown
    examples = {int(key) for key in re.findall(r"/(\d+)/change/", shown)}
    assert examples == {task.pk for task in tasks[-5:]}
    assert "skipped" in shown
    assert not BulkAction.objects.exists()


def test_what_doing_it_again_may_cause_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import handler

    handler("shop.mail", title="Send the mail", repeat="may send the mail twice")(lambda task: None)
    in_state("completed", "shop.mail")
    shown = text_of(preview(staff(*RIGHTS), "run_again", "name:shop.mail"))
    assert "may send the mail twice" in shown


def test_the_hosts_search_for_records_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []
    search = OrderAdmin.get_search_results

    def counted(self: OrderAdmin, request: Any, rows: Any, term: str) -> Any:
        searched.append(term)
        return search(self, request, rows, term)

    monkeypatch.setattr(OrderAdmin, "get_search_results", counted)
    order = Order.objects.create(number=417, customer="Ada", email="ada@example.com", total=1)
    task = failed(record=order)
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    shown = text_of(preview(client, q="record:order/ada@example.com"))
    assert f"/{task.pk}/change/" in shown
    assert "failed tasks that belong to" in shown
    assert searched == ["ada@example.com"]


def test_above_a_thousand_the_number_must_be_typed() -> None:
    many(1001)
    client = staff(*RIGHTS)
    shown = preview(client)
    assert "Type 1,001 to confirm" in text_of(shown)
    for typed in ("", "1000", "yes"):
        refused = press(client, shown, number=typed)
        assert "type the number of tasks, 1,001" in messages_of(refused)[0]
    assert not BulkAction.objects.exists()
    press(client, shown, number="1,001")
    assert BulkAction.objects.get().expected == 1001


def test_if_many_more_match_than_were_shown_nothing_is_started() -> None:
    many(2)
    client = staff(*RIGHTS)
    shown = preview(client)
    many(1500)
    refused = press(client, shown, number="2")
    assert "meanwhile 1,502 tasks match" in messages_of(refused)[0]
    assert not BulkAction.objects.exists()


def test_more_than_ten_thousand_are_about_so_many() -> None:
    many(10_050)
    shown = text_of(preview(staff(*RIGHTS)))
    assert re.search(r"Retry ≈ [\d,]+ tasks", shown)


def test_a_search_that_finds_nothing_says_so_and_what_next() -> None:
    shown = preview(staff(*RIGHTS), q="queue:empty")
    assert "Nothing matches now." in text_of(shown)
    assert "bulk/start/" not in text_of(shown)


def test_where_counting_takes_too_long_nobody_says_that_nothing_matches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed(message="refused")
    monkeypatch.setitem(count.__kwdefaults__, "seconds", 0.0)
    shown = preview(staff(*RIGHTS, "view_task_data"), q="error:refused")
    assert "It took too long to count what matches." in text_of(shown)
    assert "Nothing matches" not in text_of(shown)
    assert "bulk/start/" not in text_of(shown)


def test_a_search_that_cannot_be_read_is_explained() -> None:
    shown = text_of(preview(staff(*RIGHTS), q="colour:red"))
    assert "colour" in shown
    assert "bulk/start/" not in shown


@pytest.mark.parametrize("missing", ["bulk_task", "retry_task", "view_task"])
def test_without_each_right_there_is_neither_preview_nor_start(missing: str) -> None:
    failed()
    entered = staff(*RIGHTS, name="boss")
    shown = preview(entered)
    client = staff(*[right for right in RIGHTS if right != missing])
    assert preview(client).status_code == 403
    assert client.post(START, fields(shown)).status_code == 403
    assert not BulkAction.objects.exists()


def test_an_unknown_action_is_not_found() -> None:
    assert preview(staff(*RIGHTS), "explode").status_code == 404
    assert staff(*RIGHTS, name="bob").post(START, {"action": "explode"}).status_code == 404


# Starting


def test_pressing_the_button_starts_it_and_leads_to_its_page() -> None:
    tasks = [failed() for _ in range(3)]
    client = staff(*RIGHTS)
    shown = press(client, preview(client), reason="the shop is back", per_second="0,5")
    begun = BulkAction.objects.get()
    assert shown.redirect_chain[-1][0] == f"{LIST}bulk/{begun.pk}/"
    assert "Retry of 3 tasks is under way" in messages_of(shown)[0]
    assert (begun.who, begun.reason, begun.per_second) == ("ann", "the shop is back", 0.5)
    assert (begun.query, begun.highest_id) == ("state:failed", tasks[-1].pk)


def test_a_double_click_starts_one() -> None:
    failed()
    client = staff(*RIGHTS)
    shown = preview(client)
    first, second = press(client, shown), press(client, shown)
    assert first.redirect_chain == second.redirect_chain
    assert BulkAction.objects.count() == 1
    assert Task.objects.named("aftersave.bulk").count() == 1


def test_two_forms_start_two() -> None:
    failed()
    client = staff(*RIGHTS)
    press(client, preview(client))
    press(client, preview(client))
    assert BulkAction.objects.count() == 2


def test_a_missing_reason_is_asked_for_and_what_was_typed_stays() -> None:
    in_state("due")
    client = staff(*RIGHTS)
    shown = press(client, preview(client, "cancel", "queue:default"), reason=" ", per_second="7")
    assert "please give a reason" in messages_of(shown)[0]
    assert fields(shown)["per_second"] == "7"
    assert not BulkAction.objects.exists()


@pytest.mark.parametrize(
    "typed", ["fast", "0", "-1", "nan", "inf", "1e9", "1,000", "2.500", "0.001", "1,5,2"]
)
def test_a_pace_that_is_none_is_refused(typed: str) -> None:
    failed()
    client = staff(*RIGHTS)
    shown = press(client, preview(client), per_second=typed)
    assert "no number of tasks a second" in messages_of(shown)[0]
    assert not BulkAction.objects.exists()


def test_an_incident_is_told_that_its_rest_was_retried() -> None:
    failed()
    incident = Incident.objects.create(fingerprint="f", type="shop", action="do")
    client = staff(*RIGHTS, "manage_incident")
    press(client, preview(client, incident=str(incident.pk)))
    event = incident.events.get()
    assert (event.action, event.about) == ("bulk_start", BulkAction.objects.get())


def test_who_may_not_decide_about_an_incident_does_not_write_its_story() -> None:
    failed()
    incident = Incident.objects.create(fingerprint="f", type="shop", action="do")
    client = staff(*RIGHTS)
    press(client, preview(client, incident=str(incident.pk)))
    assert BulkAction.objects.count() == 1
    assert not incident.events.exists()


def test_an_incident_out_of_sight_is_not_told(settings: Any) -> None:
    failed("crm.sync", queue="crm")
    hidden = Incident.objects.create(fingerprint="f", type="shop", action="do")
    settings.AFTERSAVE = {"VISIBLE_TASKS": only_crm}
    client = staff(*RIGHTS, "manage_incident", name="crm")
    press(client, preview(client, incident=str(hidden.pk)))
    assert BulkAction.objects.count() == 1
    assert not hidden.events.exists()


def test_the_number_of_tasks_tells_nothing_of_secrets() -> None:
    failed(message="postgres://shop:hunter2a@db refused")
    client = staff(*RIGHTS, "view_task_data")
    shown = {text_of(preview(client, q=f"error:{guess}")) for guess in ("hunter2a", "hunter2b")}
    assert all("Nothing matches now." in text for text in shown)
    assert "Retry 1 task" in text_of(preview(client, q="error:refused"))


def test_get_starts_nothing() -> None:
    assert staff(*RIGHTS).get(START).status_code == 405


# Its own page


def begun(client: Client, **changed: str) -> BulkAction:
    press(client, preview(client), **changed)
    return BulkAction.objects.get()


def page_of(bulk_action: BulkAction) -> str:
    return f"{LIST}bulk/{bulk_action.pk}/"


def test_the_page_tells_how_far_it_is_who_started_it_and_why() -> None:
    for _ in range(3):
        failed()
    client = staff(*RIGHTS)
    shown = begun(client, reason="the <b>shop</b> is back")
    assert "waiting for a worker" in text_of(client.get(page_of(shown)))

    run_tasks(queues=["aftersave"])
    text = text_of(client.get(page_of(shown)))
    assert re.search(r'<progress max="3" value="3"', text)
    assert "3 of 3 done" in text
    assert "the &lt;b&gt;shop&lt;/b&gt; is back" in text
    assert "ann" in text
    assert f'href="{LIST}activity/?bulk={shown.pk}"' in text


@pytest.mark.parametrize(("estimate", "known"), [(10_000, "98,000"), (120_000, "120,000")])
def test_of_an_estimate_more_is_known_on_the_way_and_at_the_end(estimate: int, known: str) -> None:
    failed()
    client = staff(*RIGHTS)
    shown = begun(client)
    far = {"expected": estimate, "expected_is_exact": False, "looked_at": 98_000, "done": 97_000}
    BulkAction.objects.update(**far)
    assert f"97,000 of ≈ {known} done" in text_of(client.get(page_of(shown)))
    BulkAction.objects.update(finished_at="2026-01-01T00:00Z")
    assert "97,000 of ≈ 98,000 done" in text_of(client.get(page_of(shown)))


def test_what_was_skipped_is_counted_with_the_reason() -> None:
    tasks = [failed() for _ in range(3)]
    client = staff(*RIGHTS)
    shown = begun(client)
    tasks[0].retry()
    Task.objects.filter(pk=tasks[1].pk).update(finished_at="2030-01-01T00:00Z")
    run_tasks(queues=["aftersave"])
    text = text_of(client.get(page_of(shown)))
    assert "did not match any more when their turn came" in text
    assert "failed or were changed after the button was pressed" in text
    assert "1 of 3 done" in text


def test_tasks_that_fail_again_are_shown() -> None:
    tasks = [failed() for _ in range(2)]
    client = staff(*RIGHTS)
    shown = begun(client)
    run_tasks(queues=["aftersave"])
    finish(tasks[0], State.FAILED, reason="still broken")
    text = text_of(client.get(page_of(shown)))
    assert "Of the 2 touched last 1 has failed again." in text
    assert "still broken" in text


def test_pause_resume_and_cancel_are_buttons() -> None:
    for _ in range(2):
        failed()
    client = staff(*RIGHTS)
    shown = begun(client)
    page = page_of(shown)

    said = client.post(f"{page}pause/", {"next": page}, follow=True)
    assert messages_of(said) == ["It pauses; nothing more is touched."]
    assert "Resume" in text_of(said)
    run_tasks(queues=["aftersave"])
    assert "0 of 2 done" in text_of(client.get(page))

    client.post(f"{page}resume/")
    said = client.post(f"{page}cancel/", {"reason-cancel": "wrong search"}, follow=True)
    assert "wrong search" in text_of(said)
    assert f"{page}resume/" not in text_of(said)
    run_tasks(queues=["aftersave"])
    assert Task.objects.failed().count() == 2


def test_who_is_second_is_told_who_was_first() -> None:
    failed()
    ann, bob = staff(*RIGHTS), staff(*RIGHTS, name="bob")
    page = page_of(begun(ann))
    bob.post(f"{page}pause/")
    said = ann.post(f"{page}pause/", follow=True)
    assert messages_of(said) == ["Nothing was changed: bob paused it already."]
    assert TaskEvent.objects.filter(action="bulk_pause").count() == 1


def test_an_old_page_does_not_resume_what_was_paused_anew() -> None:
    failed()
    ann, bob = staff(*RIGHTS), staff(*RIGHTS, name="bob")
    page = page_of(begun(ann))
    ann.post(f"{page}pause/")
    old = version_on(ann.get(page))
    bob.post(f"{page}resume/", {"version": old})
    bob.post(f"{page}pause/", {"version": version_on(bob.get(page))})
    said = ann.post(f"{page}resume/", {"version": old}, follow=True)
    assert messages_of(said) == ["Nothing was changed: bob paused it already."]
    assert BulkAction.objects.get().paused_at is not None
    said = ann.post(f"{page}resume/", {"version": version_on(said)}, follow=True)
    assert messages_of(said) == ["It goes on where it stood."]


def version_on(shown: Any) -> str:
    """What the buttons of the page send of what it shows."""
    (version,) = set(re.findall(r'name="version" value="([^"]+)"', text_of(shown)))
    return str(version)


@pytest.mark.parametrize("button", ["pause", "resume", "cancel"])
def test_without_the_rights_there_are_no_buttons(button: str) -> None:
    failed()
    page = page_of(begun(staff(*RIGHTS)))
    for number, rights in enumerate(
        [("view_task",), ("view_task", "bulk_task"), ("view_task", "retry_task")]
    ):
        client = staff(*rights, name=f"bob{number}")
        assert f"{page}{button}/" not in text_of(client.get(page))
        assert client.post(f"{page}{button}/").status_code == 403
        assert client.get(f"{page}{button}/").status_code == 405


def test_why_it_stopped_is_said_in_words() -> None:
    failed()
    client = staff(*RIGHTS)
    shown = begun(client)
    from django.contrib.auth.models import User

    User.objects.get().user_permissions.filter(codename="retry_task").first()
    user = User.objects.get()
    user.user_permissions.remove(user.user_permissions.get(codename="retry_task"))
    run_tasks(queues=["aftersave"])
    text = text_of(client.get(page_of(shown)))
    assert "stopped before the end: who started it has no right to do this any more" in text


def test_one_whose_task_was_cancelled_says_so_and_can_be_resumed() -> None:
    failed()
    client = staff(*RIGHTS)
    shown = begun(client)
    assert shown.task is not None
    shown.task.cancel()
    text = text_of(client.get(page_of(shown)))
    assert "has ended before the end" in text
    client.post(f"{page_of(shown)}resume/")
    run_tasks(queues=["aftersave"])
    assert Task.objects.failed().count() == 0


def test_a_failed_step_is_told_with_the_task_that_shows_why() -> None:
    failed()
    client = staff(*RIGHTS)
    shown = begun(client)
    BulkAction.objects.update(progressed_at="2026-01-01T00:00Z", rate=1)
    Task.objects.filter(pk=shown.task_id).update(due=False, attempts=1)
    Failure.objects.create(task_id=shown.task_id, attempt=1, exception="x.Broken")
    text = text_of(client.get(page_of(shown)))
    assert "tried again by itself" in text
    assert f"/{shown.task_id}/change/" in text


def only_crm(user: Any, tasks: Any) -> Any:
    if user.get_username().startswith("crm"):
        return tasks.filter(queue="crm")
    return tasks


def test_scoped_staff_see_only_what_people_with_their_scope_started(settings: Any) -> None:
    settings.AFTERSAVE = {"VISIBLE_TASKS": only_crm}
    failed(queue="crm")
    boss = staff(*RIGHTS)
    of_boss = page_of(begun(boss))
    one, other = staff(*RIGHTS, name="crm1"), staff(*RIGHTS, name="crm2")
    press(one, preview(one))
    of_one = page_of(BulkAction.objects.latest("pk"))

    assert [client.get(of_boss).status_code for client in (boss, one, other)] == [200, 404, 404]
    assert [client.get(of_one).status_code for client in (boss, one, other)] == [200, 200, 200]
    assert one.post(f"{of_boss}cancel/").status_code == 404


def test_a_search_in_data_is_not_told_to_who_may_not_see_data() -> None:
    failed(data={"customer": {"id": 17}})
    client = staff(*RIGHTS, "view_task_data")
    press(client, preview(client, q="state:failed data.customer.id:17"))
    page = page_of(BulkAction.objects.get())
    assert "data.customer.id:17" in text_of(client.get(page))
    bob = staff("view_task", name="bob")
    for address in (page, f"{LIST}activity/"):
        shown = text_of(bob.get(address))
        assert "customer.id" not in shown
        assert "Retry of 1 task" in shown


def test_there_is_no_page_of_what_does_not_exist() -> None:
    assert staff(*RIGHTS).get(f"{LIST}bulk/77/").status_code == 404


def test_the_page_asks_few_questions(django_assert_max_num_queries: Any) -> None:
    for _ in range(30):
        failed()
    client = staff(*RIGHTS)
    shown = begun(client)
    run_tasks(queues=["aftersave"])
    Task.objects.filter(queue="default").update(
        state=State.FAILED, due=False, finished_at="2030-01-01T00:00Z"
    )
    with django_assert_max_num_queries(25):
        client.get(page_of(shown))
    with django_assert_max_num_queries(25):
        preview(client)


def test_what_is_done_to_a_bulk_action_stands_in_the_admin_log_with_the_reason() -> None:
    many(3)
    client = staff(*RIGHTS)
    bulk_action = begun(client)
    for button in ("pause", "resume", "cancel"):
        client.post(f"{page_of(bulk_action)}{button}/", {f"reason-{button}": f"because {button}"})
    client.post(f"{page_of(bulk_action)}cancel/")  # too late: nothing is done, nothing logged
    entries = LogEntry.objects.filter(
        content_type__model="bulkaction", object_id=str(bulk_action.pk)
    ).order_by("pk")
    assert [entry.get_change_message() for entry in entries][1:] == [
        "Paused it: because pause",
        "Resumed it: because resume",
        "Cancelled the rest: because cancel",
    ]
