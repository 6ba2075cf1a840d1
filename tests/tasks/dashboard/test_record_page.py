"""The page of a record: how its tasks are, their story, and one button for all that failed."""

import re
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import DatabaseError
from django.urls import NoReverseMatch
from django.utils import timezone

from orders.models import Order
from tasks import enqueue, on_create
from tasks.dashboard import record_buttons
from tasks.dashboard.typed import LONGEST_TYPED
from tasks.models import Failure, Task, TaskEvent
from tests.tasks.admin_rows import EVERYTHING, in_state, messages_of, staff, text_of
from tests.tasks.tools import finish
from tests.workload.models import ChildRecord, Parcel, ProxyRecord, Record

pytestmark = pytest.mark.django_db

ROOT = "/admin/tasks/task/"


@pytest.fixture
def client():
    return staff(*EVERYTHING)


@pytest.fixture
def record():
    return Record.objects.create(name="The record")


def address_of(record, page="record"):
    options = record._meta
    return f"{ROOT}{page}/{options.app_label}/{options.model_name}/{record.pk}/"


def page(client, record, query=""):
    response = client.get(address_of(record) + query)
    assert response.status_code == 200
    return text_of(response)


def failed(record, name="shop.do", **more):
    return in_state("failed", name, record=record, **more)


def seen(shown):
    """What the button for all that failed sends along."""
    found = re.search(r'/record-retry/[^"]*" name="version" value="([^"]+)"', shown)
    assert found, "there is no such button"
    return {"version": found[1]}


def mine_alone(user, queryset):
    return queryset.filter(queue="mine")


class TestTheRollUp:
    def test_it_says_how_many_are_done_and_what_is_not(self, client, record):
        for state in ("completed", "completed", "failed", "later"):
            in_state(state, record=record)
        shown = page(client, record)
        assert "2 of 4 done" in shown
        assert "1 failed" in shown
        assert "1 later" in shown
        assert "The record" in shown

    def test_tasks_of_other_records_do_not_count(self, client, record):
        in_state("completed", record=record)
        in_state("failed", record=Record.objects.create())
        same_key = Parcel.objects.create()
        Task.objects.filter(pk=in_state("failed", record=same_key).pk).update(object_id=record.pk)
        assert "1 of 1 done" in page(client, record)

    def test_a_proxy_and_a_child_show_the_tasks_of_their_parent(self, client, record):
        in_state("failed", record=record)
        assert "0 of 1 done" in page(client, ProxyRecord.objects.get(pk=record.pk))
        child = ChildRecord.objects.create(name="child")
        in_state("completed", record=child)
        assert "1 of 1 done" in page(client, child)


class TestTheStory:
    def test_it_is_told_in_time_order_over_all_tasks(self, client):
        @on_create(Record)
        def after_checkin(record):
            first = record.tasks.build("shop.first")
            yield first
            yield record.tasks.build("shop.second", after=[first])

        record = Record.objects.create(name="told")
        first = record.tasks.named("shop.first").get()
        # SQLite's clock has milliseconds, Python's microseconds.
        long_ago = timezone.now() - timedelta(minutes=1)
        record.tasks.update(created_at=long_ago)
        Failure.objects.create(
            task=first, attempt=1, at=long_ago, exception="a.Refused", message="no <b>"
        )
        finish(first)
        second = record.tasks.named("shop.second").get()
        finish(second, "failed", reason="card refused")
        second.retry(by="ann", reason="another card")
        told = [
            "2 tasks were created by the rule “after_checkin”.",
            "Attempt 1 failed: Refused: no &lt;b&gt;",
            "Completed in attempt 1.",
            "<strong>ann</strong> retried",
            "What happens next",
            "No handler of the name shop.second is known here",
        ]
        shown = page(client, record)
        shown = shown[shown.index('id="af-record-story"') : shown.index('id="af-record-ticket"')]
        places = [shown.index(sentence) for sentence in told]
        assert places == sorted(places)
        assert "another card" in shown

    def test_who_made_a_task_is_told(self, client, record):
        task = enqueue("shop.do", record=record)
        assert "Created by code." in page(client, record)
        Task.objects.filter(pk=task.pk).update(context={"origin": "task:77"})
        assert "Created by task #77." in page(client, record)

    def test_what_waits_for_what_is_told(self, client, record):
        task = failed(record)
        after = enqueue("shop.next", record=record, after=[task])
        shown = page(client, record)
        assert f"It waits for #{task.pk}, which failed." in shown
        card = shown[shown.index(f'id="af-task-{task.pk}"') :]
        assert f">shop.next #{after.pk}</a>" in card[: card.index("</li>")]

    def test_it_says_when_nothing_more_happens(self, client, record):
        in_state("completed", record=record)
        assert "Nothing more" in page(client, record)
        failed(record)
        assert "what failed waits for somebody" in page(client, record)

    def test_what_failed_waits_for_somebody_also_where_other_tasks_go_on(self, client, record):
        in_state("later", record=record)
        assert "waits for somebody" not in page(client, record)
        failed(record)
        shown = page(client, record)
        assert 'id="af-next-' in shown
        assert "What failed waits for somebody to retry it" in shown

    def test_error_texts_and_changes_are_for_who_may_see_data(self, record):
        task = failed(record)
        Task.objects.filter(pk=task.pk).update(state="scheduled", due=True, finished_at=None)
        Failure.objects.create(task=task, attempt=1, exception="a.Refused", message="the MESSAGE")
        TaskEvent.objects.create(task=task, difference=[{"path": "data.to", "after": "the VALUE"}])
        shown = page(staff("view_task"), record)
        assert "MESSAGE" not in shown
        assert "VALUE" not in shown
        assert "Attempt 1 failed: Refused" in shown
        shown = page(staff(*EVERYTHING, name="bob"), record)
        assert "Refused: the MESSAGE" in shown
        assert "the VALUE" in shown

    def test_everything_told_is_text_without_secrets(self, client, record):
        script = "<script>alert(1)</script> password=hunter2"
        record.name = "<script>alert(2)</script>"
        record.save()
        task = failed(record)
        Task.objects.filter(pk=task.pk).update(reason=script, context={"rule": script})
        Failure.objects.create(task=task, attempt=1, exception=script, message=script)
        TaskEvent.objects.create(task=task, who=script, action="<script>", reason=script)
        shown = page(client, record)
        assert "<script>alert" not in shown
        assert "hunter2" not in shown


class TestWhatIsShownOfMany:
    def test_the_newest_20_then_older_ones(self, client, record):
        ids = [in_state("completed", record=record).pk for _ in range(25)]
        newest = page(client, record)
        assert [pk for pk in ids if f'id="af-task-{pk}"' in newest] == ids[5:]
        assert f"?before={ids[5]}" in newest
        older = page(client, record, f"?before={ids[5]}")
        assert [pk for pk in ids if f'id="af-task-{pk}"' in older] == ids[:5]
        assert "25 of 25 done" in older
        assert "There are no older tasks." in page(client, record, f"?before={ids[0]}")
        assert page(client, record, "?before=nonsense")

    def test_older_ones_that_somebody_must_see_are_on_the_first_page(self, client, record):
        waits, broken, fine = (in_state(s, record=record) for s in ("later", "failed", "completed"))
        newer = [in_state("completed", record=record) for _ in range(20)]
        shown = page(client, record)
        cards = re.findall(r'<li class="af-card af-row" id="af-task-(\d+)"', shown)
        assert [int(pk) for pk in cards] == [*(t.pk for t in newer[::-1]), broken.pk, waits.pk]
        assert "Of the older tasks only those are shown here that failed" in shown
        assert f'id="af-next-{waits.pk}"' in shown
        assert "Nothing more" not in shown
        assert f"/task/{broken.pk}/retry/" in shown
        assert "Only the newest of what happened is told here." in shown
        older = page(client, record, f"?before={newer[0].pk}")
        cards = re.findall(r'<li class="af-card af-row" id="af-task-(\d+)"', older)
        assert [int(pk) for pk in cards] == [fine.pk, broken.pk, waits.pk]
        assert "Of the older tasks" not in older

    def test_of_very_many_older_ones_the_newest_ten_of_each_kind_are(self, client, record):
        for state in ("failed", "later"):
            for _ in range(12):
                in_state(state, record=record)
        newer = [in_state("completed", record=record) for _ in range(20)]
        shown = page(client, record)
        cards = re.findall(r'<li class="af-card af-row" id="af-task-\d+"', shown)
        assert len(cards) == len(newer) + 20
        assert shown.count('id="af-next-') == 10

    def test_the_number_of_queries_does_not_grow(
        self, client, record, django_assert_max_num_queries
    ):
        for _ in range(10):
            task = failed(record)
            enqueue("shop.next", record=record, after=[task])
            in_state("running", record=record)
            for attempt in range(5):
                Failure.objects.create(task=task, attempt=attempt, exception="a.B", worker_id=1)
                TaskEvent.objects.create(task=task, action="retry")
        page(client, record)
        with django_assert_max_num_queries(22):
            page(client, record)

    def test_ten_thousand_tasks_are_counted_no_further(self, client, record):
        task = enqueue("shop.do", record=record)
        Task.objects.filter(pk=task.pk).update(
            state="completed", due=False, finished_at=timezone.now()
        )
        task.refresh_from_db()
        rows = [Task(**{**plain(task), "id": None}) for _ in range(10_050)]
        Task.objects.bulk_create(rows, batch_size=500)
        shown = page(client, record)
        assert "10000 of 10000 done" in shown.replace(",", "")
        assert "and more, which are not counted" in shown
        newest = Task.objects.order_by("-pk").first()
        assert f'id="af-task-{newest.pk}"' in shown


def plain(task):
    columns = {f.attname: getattr(task, f.attname) for f in Task._meta.concrete_fields}
    return {**columns, "live_key": None}


class TestAnyRecord:
    def test_without_tasks_the_page_says_so(self, client, record):
        assert "This record has no tasks that you may see." in page(client, record)

    def test_a_deleted_one_keeps_its_story(self, client, record):
        failed(record)
        address = address_of(record)
        record.delete()
        response = client.get(address)
        assert response.status_code == 200
        assert "(deleted)" in text_of(response)
        assert "it broke" in text_of(response)

    def test_one_whose_model_is_gone_keeps_its_story(self, client):
        task = in_state("failed")
        gone = ContentType.objects.create(app_label="retired", model="thing")
        Task.objects.filter(pk=task.pk).update(content_type=gone, object_id="a/b c")
        response = client.get(f"{ROOT}record/retired/thing/a/b%20c/")
        assert "Thing a/b c (deleted)" in text_of(response)
        assert "it broke" in text_of(response)

    @pytest.mark.parametrize(
        "address",
        [
            "record/nobody/knows/1/",
            "record/workload/record/999999/",
            "record/workload/record/nonsense/",
            f"record/workload/record/{'9' * 40}/",
            f"record/workload/record/{'x' * 80}/",
            "record/workload/parcel/nonsense/",
            "record/workload/record/%00/",
            "record/auth/user/1/",
        ],
    )
    def test_one_that_never_was_answers_404(self, client, address):
        assert client.get(ROOT + address).status_code == 404

    def test_a_model_that_owns_no_tasks_is_shown_to_who_sees_it_in_the_admin_alone(self, client):
        user = User.objects.get()
        assert client.get(f"{ROOT}record/auth/user/{user.pk}/").status_code == 404
        client.force_login(User.objects.create_superuser("root"))
        assert client.get(f"{ROOT}record/auth/user/{user.pk}/").status_code == 200

    def test_a_key_that_is_no_number_has_a_page(self, client):
        parcel = Parcel.objects.create()
        failed(parcel)
        assert "0 of 1 done" in page(client, parcel)

    def test_its_page_in_the_admin_is_linked_for_who_may_see_it(self, client):
        order = Order.objects.create(customer="Ann", email="ann@example.com")
        link = f'href="/admin/orders/order/{order.pk}/change/"'
        assert link not in page(client, order)
        client.force_login(User.objects.create_superuser("root"))
        assert link in page(client, order)


class TestScope:
    @pytest.fixture(autouse=True)
    def _narrowed(self, settings):
        settings.AFTERSAVE = {"VISIBLE_TASKS": mine_alone}

    def test_tasks_outside_are_neither_counted_nor_told(self, client, record):
        in_state("completed", "shop.seen", queue="mine", record=record)
        failed(record, "shop.hidden")
        shown = page(client, record)
        assert "1 of 1 done" in shown
        assert "shop.hidden" not in shown

    def test_a_record_with_none_inside_does_not_exist(self, client, record):
        failed(record)
        assert client.get(address_of(record)).status_code == 404

    def test_retrying_all_leaves_those_outside(self, client, record):
        mine, other = failed(record, queue="mine"), failed(record)
        client.post(address_of(record, "record-retry"))
        states = dict(Task.objects.values_list("pk", "state"))
        assert (states[mine.pk], states[other.pk]) == ("scheduled", "failed")


class TestRetryAll:
    def test_it_retries_what_failed_and_nothing_else(self, client, record):
        tasks = [failed(record), failed(record)]
        done, other = in_state("completed", record=record), failed(Record.objects.create())
        response = client.post(address_of(record, "record-retry"), follow=True)
        assert messages_of(response) == ["2 tasks were retried."]
        assert set(record.tasks.filter(state="scheduled")) == set(tasks)
        for untouched in (done, other):
            assert Task.objects.get(pk=untouched.pk).state == untouched.state
        assert list(TaskEvent.objects.values_list("who", "action")) == [("ann", "retry")] * 2
        assert LogEntry.objects.count() == 2

    def test_if_there_are_more_than_at_once_the_answer_says_so(self, client, record, monkeypatch):
        monkeypatch.setattr(record_buttons, "MOST_RETRIED", 2)
        for _ in range(3):
            failed(record)
        response = client.post(address_of(record, "record-retry"), follow=True)
        assert messages_of(response)[0].startswith("2 tasks were retried. More tasks of this")
        response = client.post(address_of(record, "record-retry"), follow=True)
        assert messages_of(response)[0] == "1 task was retried."
        assert not record.tasks.failed().exists()

    def test_what_colleagues_shall_know_is_kept_with_every_task(self, client, record):
        for _ in range(2):
            failed(record)
        shown = page(client, record)
        name = re.search(r'<input type="text" form="af-form" id="(.*?)" name="\1"', shown)
        assert name, "there is no field for a reason, or it is in another form"
        text = "  the mail server was moved  "
        client.post(address_of(record, "record-retry"), {**seen(shown), name[1]: text})
        reasons = TaskEvent.objects.values_list("reason", flat=True)
        assert list(reasons) == ["the mail server was moved"] * 2
        logged = LogEntry.objects.values_list("change_message", flat=True)
        assert list(logged) == ["Retried: the mail server was moved"] * 2

    def test_a_reason_is_no_longer_than_others(self, client, record):
        failed(record)
        client.post(address_of(record, "record-retry"), {"reason": "x" * (LONGEST_TYPED + 1)})
        assert len(TaskEvent.objects.get().reason) <= LONGEST_TYPED

    def test_what_was_seen_is_done(self, client, record):
        for _ in range(2):
            failed(record)
        shown = page(client, record)
        client.post(address_of(record, "record-retry"), seen(shown))
        assert not record.tasks.failed().exists()

    @pytest.mark.parametrize("change", ["one more failed", "one was retried", "one failed again"])
    def test_what_was_not_seen_is_not_done(self, client, record, change):
        tasks = [failed(record) for _ in range(3)]
        shown = page(client, record)
        if change == "one more failed":
            failed(record)
        else:
            Task.objects.get(pk=tasks[0].pk).retry(by="bob")
        if change == "one failed again":
            finish(tasks[0], "failed")
        before = record.tasks.failed().count()
        response = client.post(address_of(record, "record-retry"), seen(shown), follow=True)
        assert "Nothing was retried: other tasks" in messages_of(response)[0]
        assert record.tasks.failed().count() == before
        assert not TaskEvent.objects.filter(who="ann").exists()
        # The page that says so shows how they are now.
        client.post(address_of(record, "record-retry"), seen(text_of(response)))
        assert not record.tasks.failed().exists()

    def test_twice_does_it_once(self, client, record):
        failed(record)
        client.post(address_of(record, "record-retry"))
        response = client.post(address_of(record, "record-retry"), follow=True)
        assert "Nothing was retried" in messages_of(response)[-1]
        assert TaskEvent.objects.count() == 1

    def test_it_is_offered_where_it_helps_to_who_may(self, client, record):
        failed(record)
        assert "record-retry" not in page(client, record)
        failed(record)
        assert f'formaction="{address_of(record, "record-retry")}"' in page(client, record)
        assert "record-retry" not in page(staff("view_task", name="bob"), record)

    def test_it_is_not_offered_where_the_host_forbids_all_of_them(self, client, record, settings):
        tasks = [failed(record) for _ in range(2)]
        settings.AFTERSAVE = {"MAY": lambda user, action, task: task.pk != tasks[0].pk}
        assert "Retry all failed of this record" in page(client, record)
        settings.AFTERSAVE = {"MAY": lambda user, action, task: False}
        assert "Retry all failed of this record" not in page(client, record)

    def test_who_may_not_retry_is_refused(self, record):
        failed(record)
        response = staff("view_task").post(address_of(record, "record-retry"))
        assert response.status_code == 403
        assert record.tasks.failed().count() == 1

    def test_nothing_is_retried_that_the_log_does_not_tell(self, client, record, monkeypatch):
        def fail(*args, **kwargs):
            raise DatabaseError("the disk is full")

        failed(record)
        # The entry for one task; that for many is written by another function.
        monkeypatch.setattr(admin.site.get_model_admin(Task), "log_change", fail)
        with pytest.raises(DatabaseError):
            client.post(address_of(record, "record-retry"))
        assert record.tasks.failed().count() == 1
        assert not TaskEvent.objects.exists()

    def test_what_the_host_forbids_is_left_and_counted(self, client, record, settings):
        settings.AFTERSAVE = {"MAY": lambda user, action, task: task.queue == "open"}
        failed(record, queue="open")
        failed(record)
        response = client.post(address_of(record, "record-retry"), follow=True)
        assert "1 task was retried." in messages_of(response)[0]
        assert "1 you may not touch" in messages_of(response)[0]

    def test_get_changes_nothing(self, client, record):
        failed(record)
        assert client.get(address_of(record, "record-retry")).status_code == 405
        assert record.tasks.failed().count() == 1


class TestTheAddressForHostPages:
    def test_it_leads_to_the_record(self, client, record):
        failed(record)
        assert record.tasks.admin_url() == address_of(record)
        assert client.get(record.tasks.admin_url()).status_code == 200

    @pytest.mark.parametrize("base", ["https://shop.example.com", "https://shop.example.com/"])
    def test_it_is_absolute_with_a_base_url(self, record, settings, base):
        settings.AFTERSAVE = {"BASE_URL": base}
        assert record.tasks.admin_url() == f"https://shop.example.com{address_of(record)}"

    def test_a_prefix_stands_in_it_once(self, record, settings):
        settings.AFTERSAVE = {"BASE_URL": "https://shop.example.com/erp"}
        assert record.tasks.admin_url() == f"https://shop.example.com/erp{address_of(record)}"

    def test_in_a_request_below_a_prefix_it_has_it_too(self, record, settings):
        from django.urls import set_script_prefix

        set_script_prefix("/erp/")
        try:
            assert record.tasks.admin_url() == f"/erp{address_of(record)}"
            settings.AFTERSAVE = {"BASE_URL": "https://shop.example.com/erp"}
            assert record.tasks.admin_url() == f"https://shop.example.com/erp{address_of(record)}"
        finally:
            set_script_prefix("/")

    @pytest.mark.urls("orders.urls")
    def test_without_pages_it_says_so(self, record):
        with pytest.raises(NoReverseMatch):
            record.tasks.admin_url()


def test_where_everything_moves_however_much_goes_on_nothing_else_is_said(client, record):
    assert 'data-busy=""' in page(client, record)
    assert 'data-busy="(more than 100' in text_of(client.get(ROOT))


def test_who_may_not_see_tasks_gets_no_page(record):
    failed(record)
    assert staff("view_task_data", "retry_task").get(address_of(record)).status_code == 403


def test_the_story_of_a_task_that_waits_long_is_not_out_of_order(client, record):
    task = enqueue("shop.do", record=record, delay=timedelta(days=7))
    shown = page(client, record)
    assert "It runs later" in shown
    assert shown.index(f"af-entry-created-{task.pk}") < shown.index(f"af-next-{task.pk}")


def test_every_part_of_the_page_stands_on_it(client, record):
    from tasks.dashboard.pages.record import RecordPage

    failed(record)
    shown = page(client, record)
    assert [part for part in RecordPage.parts if shown.count(f'id="{part}"') != 1] == []
