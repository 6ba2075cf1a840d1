"""What each word of a search finds, what it says, and what it refuses."""

from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.http import QueryDict
from django.test import RequestFactory
from django.utils import timezone
from django.utils.translation import override

from benchmarks.big_tables.pages import addresses
from orders.models import Order
from tasks import enqueue, handler
from tasks.dashboard import finding, terms
from tasks.dashboard.finding import task_number
from tasks.dashboard.matching import matching
from tasks.dashboard.viewer import Viewer
from tasks.dashboard.window import read
from tasks.models import Failure, Incident, State, Task, Worker
from tests.tasks.admin_rows import failed, in_state
from tests.tasks.tools import finish
from tests.workload.models import Record

pytestmark = pytest.mark.django_db


def viewer_with(*rights):
    user = User.objects.create_user(f"user{User.objects.count()}", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    return viewer_of(user)


def viewer_of(user):
    request = RequestFactory().get("/")
    request.user = user
    return Viewer(request, admin.site)


@pytest.fixture
def viewer():
    return viewer_of(User.objects.create_superuser("root"))


def found(viewer, text):
    match = matching(viewer, text)
    assert not match.errors, match.errors
    ids = read(match).ids
    kept = match.keeps(match.queryset.order_by("-pk"))
    assert [task.pk for task in kept] == ids, "the page and the whole differ"
    return set(ids)


def complaint(viewer, text):
    match = matching(viewer, text)
    assert read(match).ids == []
    assert not match.queryset.exists()
    (only,) = match.errors
    return only


class TestNames:
    def test_a_name_finds_its_tasks_alone(self, viewer):
        task, longer, _ = enqueue("mail.send"), enqueue("mail.send.now"), enqueue("other.send")
        for text in ("name:mail.send", "mail.send"):
            assert found(viewer, text) == {task.pk}
        for text in ("name:mail.*", "name:mail.", "name:mail", "name:mai*", "mail.", "mail.*"):
            assert found(viewer, text) == {task.pk, longer.pk}, text
        assert found(viewer, "name:mail.send.*") == {longer.pk}
        assert found(viewer, "name:mail.se*") == {task.pk, longer.pk}

    def test_a_title_finds_the_tasks_of_its_handler(self, viewer):
        handler("cake.bake", title="Bake a cake")(lambda task: None)
        task = enqueue("cake.bake")
        enqueue("cake.eat")
        assert found(viewer, "bake a") == {task.pk}

    @pytest.mark.parametrize("name", ["%", "a b", "mail..send", "ma!l", "x" * 100])
    def test_what_is_no_name_is_explained(self, viewer, name):
        assert "is no name of tasks" in complaint(viewer, f'name:"{name}"')


class TestRecords:
    @pytest.fixture
    def order(self):
        return Order.objects.create(customer="Ann", email="ann@example.com")

    def own(self, order):
        return set(order.tasks.values_list("pk", flat=True))

    def test_a_number_finds_the_task_and_the_record_with_that_key(self, viewer, order):
        task = enqueue("shop.do")
        assert task.pk in found(viewer, str(task.pk))
        assert task.pk in found(viewer, f"#{task.pk}")
        assert self.own(order) <= found(viewer, str(order.pk))

    def test_numbers_are_found_in_the_digits_of_any_script(self, viewer, order):
        task = enqueue("shop.do")
        for number, wanted in ((task.pk, {task.pk}), (order.pk, self.own(order))):
            text = "".join("٠١٢٣٤٥٦٧٨٩"[int(digit)] for digit in str(number))
            assert wanted <= found(viewer, text), text

    def test_a_key_that_is_no_number_finds_the_record(self, viewer):
        task = enqueue("shop.do")
        key = ContentType.objects.get_for_model(Record)
        Task.objects.filter(pk=task.pk).update(content_type=key, object_id="A-17")
        assert found(viewer, "A-17") == found(viewer, "record:record/A-17") == {task.pk}

    def test_model_and_key_find_the_record_whether_registered_or_not(self, viewer, order):
        task = enqueue("shop.do", record=Record.objects.create(name="plain"))
        for text in (f"Order {order.pk}", f"record:order/{order.pk}", f"orders.order/{order.pk}"):
            assert found(viewer, text) >= self.own(order), text
        assert found(viewer, f"record:record/{task.object_id}") == {task.pk}

    def test_what_the_records_own_admin_page_finds_is_found(self, viewer, order):
        other = Order.objects.create(customer="Bob", email="bob@example.com")
        for text in ("ann@example.com", "record:ann@example.com"):
            assert found(viewer, text) == self.own(order)
        assert found(viewer, f"Order {other.number}") >= self.own(other)

    def test_it_is_said_when_more_than_one_record_is_meant(self, viewer, order, monkeypatch):
        Order.objects.create(customer="Anna", email="anna@example.com")
        said = matching(viewer, "record:order/ann").explanation
        assert said == "tasks that belong to one of the 2 records found by “order/ann”"
        assert matching(viewer, "record:anna").explanation == "tasks that belong to anna"
        monkeypatch.setattr(finding, "MOST_RECORDS", 2)
        monkeypatch.setattr(terms, "MOST_RECORDS", 2)
        assert "one of the first 2 records" in matching(viewer, "record:ann").explanation

    def test_records_one_may_not_see_are_not_searched(self, order):
        assert found(viewer_with("view_task"), "ann@example.com") == set()

    def test_a_model_nobody_has_is_explained(self, viewer):
        assert "Did you mean record:order/5?" in complaint(viewer, "record:ordr/5")
        assert "model and its key" in complaint(viewer, "record:order/")

    @pytest.mark.parametrize(
        "text", ["nothing like it", "%", "9" * 40, "a.b.c.", "/", "orders.order/", "²", "#"]
    )
    def test_strange_texts_find_nothing_and_break_nothing(self, viewer, order, text):
        assert found(viewer, text) == set()


class TestErrors:
    def test_the_text_of_any_attempt_is_found(self, viewer):
        task = failed("shop.do", message="Mailbox full at example.com")
        Failure.objects.create(task=task, attempt=2, exception="shop.Broken", message="no route")
        failed("shop.do", message="something else")
        for text in ('error:"mailbox full"', "error:NO error:route", 'error:"it broke" error:full'):
            assert found(viewer, text) == {task.pk}, text

    def test_one_who_may_not_see_data_cannot_search_it(self):
        failed("shop.do", message="mailbox full")
        viewer = viewer_with("view_task")
        assert "may not see" in complaint(viewer, "error:mailbox")
        assert "may not see" in complaint(viewer, "data.customer.id:17")

    def test_secrets_in_errors_are_not_found_however_one_asks(self, viewer):
        failed("shop.do", message="smtp://shop:hunter2@mail refused, token=abc123")
        for text in ("error:hunter2", "error:hunt", "error:abc123", "error:shop:hu"):
            assert found(viewer, text) == set(), text
        assert found(viewer, "error:refused") != set()
        assert "secret" in complaint(viewer, "error:token=abc123")


class TestData:
    @pytest.mark.parametrize(
        ("value", "text"),
        [(17, "17"), ("17", "17"), (1.5, "1.5"), (True, "true"), ("a b", '"a b"'), ("Ä%_", "Ä%_")],
    )
    def test_a_value_is_found_as_it_is_written(self, viewer, value, text):
        task = enqueue("shop.do", {"customer": {"id": value}})
        enqueue("shop.do", {"customer": {"id": "other"}})
        enqueue("shop.do", {"customer": [1]})
        assert found(viewer, f"data.customer.id:{text}") == {task.pk}

    @pytest.mark.parametrize("key", ["contains", "exact", "isnull", "id__gt"])
    def test_keys_that_sound_like_questions_are_only_keys(self, viewer, key):
        task = enqueue("shop.do", {key: "x", "other": 1})
        assert found(viewer, f"data.{key}:x") == {task.pk}

    @pytest.mark.parametrize("key", ["password", "customer.api_key", "card", "token.id"])
    def test_secret_keys_cannot_be_searched(self, viewer, key):
        enqueue("shop.do", {"password": "x"})
        assert "cannot be searched" in complaint(viewer, f"data.{key}:x")

    def test_a_secret_value_cannot_be_searched(self, viewer):
        enqueue("shop.do", {"url": "smtp://shop:hunter2@mail"})
        assert "cannot be searched" in complaint(viewer, 'data.url:"smtp://shop:hunter2@mail"')

    def test_a_declared_key_is_found_by_its_index_which_the_explanation_says(self, viewer):
        handler("crm.push", search=["customer.id"])(lambda task: None)
        task = enqueue("crm.push", {"customer": {"id": 17}})
        other = enqueue("shop.do", {"customer": {"id": 17}})
        assert found(viewer, "data.customer.id:17") == {task.pk}
        assert "tasks named crm.push" in matching(viewer, "data.customer.id:17").explanation
        assert found(viewer, "data.customer.id:17 name:crm.push") == {task.pk}
        handler("shop.do")(lambda task: None)
        assert found(viewer, "data.customer.id:17 name:shop.do") == {other.pk}

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("crm.*", 0), ("crm", 0), ("crm.", 0), ("cr*", 0), ("crm.pu*", 0), ("crm.push", 0),
            ("shop.*", 1), ("shop", 1), ("shop.do", 1), ("crm.pushed", 2), ("crm.push.*", None),
        ],
    )  # fmt: skip
    def test_names_that_do_not_declare_the_key_are_looked_through(self, viewer, name, wanted):
        handler("crm.push", search=["customer.id"])(lambda task: None)
        made = [
            enqueue(one, {"customer": {"id": 17}}).pk
            for one in ("crm.push", "shop.do", "crm.pushed")
        ]
        only = {made[wanted]} if wanted is not None else set()
        assert found(viewer, f"data.customer.id:17 name:{name}") == only


class TestTimes:
    @pytest.fixture
    def days(self):
        """Tasks of the 19th to the 23rd, in this order."""
        made = [enqueue("shop.do") for _ in range(5)]
        for day, task in enumerate(made, 19):
            Task.objects.filter(pk=task.pk).update(created_at=f"2026-03-{day}T12:00:00Z")
        return [task.pk for task in made]

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            (">2026-03-21", [22, 23]), (">=2026-03-21", [21, 22, 23]), ("<2026-03-21", [19, 20]),
            ("<=2026-03-21", [19, 20, 21]), ("2026-03-21", [21]),
            ("2026-03-20..2026-03-22", [20, 21, 22]), (">2026-03-21T11:59", [21, 22, 23]),
            ("2026-03-21T12:00", [21]), ("<2026-03-21T12:00", [19, 20]),
            (">2026-03-22T12:30+01:00", [22, 23]), ("24h", []),
        ],
    )  # fmt: skip
    def test_days_and_times(self, viewer, days, text, wanted):
        assert found(viewer, f"created:{text}") == {days[day - 19] for day in wanted}

    def test_relative_times_count_from_when_it_was_asked(self, viewer, days):
        now = timezone.now().replace(year=2026, month=3, day=22, hour=13, minute=0)
        match = matching(viewer, "created:25h", now)
        assert sorted(read(match).ids) == days[3:]
        assert "in the last 25 hours" in match.explanation

    def test_longer_ago_is_all_that_was_before(self, viewer, days):
        now = timezone.now().replace(year=2026, month=3, day=22, hour=13, minute=0)
        match = matching(viewer, "created:<25h", now)
        assert sorted(read(match).ids) == days[:3]
        assert "created more than 25 hours ago" in match.explanation
        assert "in the last 2 weeks" in matching(viewer, "created:>2w", now).explanation

    def test_the_zone_of_a_time_is_named(self, viewer, settings):
        settings.TIME_ZONE = "Asia/Tokyo"
        said = matching(viewer, "created:>2026-03-21T12:00").explanation
        assert said == "tasks created after March 21, 2026, 12:00 JST"

    @pytest.mark.parametrize(
        "text",
        ["yesterday", "2026-13-01", ">", "99999999d", "2026-03-20..", "0000-00-00", "9999-12-31"],
    )
    def test_what_is_no_time_is_explained_with_what_is(self, viewer, text):
        assert "2026-11-20T09:00" in complaint(viewer, f"created:{text}")


class TestTheRest:
    def test_ids(self, viewer):
        first, second = enqueue("shop.do"), enqueue("shop.do")
        assert found(viewer, f"id:{first.pk}") == {first.pk}
        assert found(viewer, f"id:{first.pk},#{second.pk},999999") == {first.pk, second.pk}
        assert "id:12,15" in complaint(viewer, "id:x")

    def test_a_worker_by_host_process_or_number(self, viewer):
        Worker.objects.create(id=77, host="web-3", pid=12, threads=1, coroutines=1)
        Worker.objects.create(id=78, host="web-4", pid=12, threads=1, coroutines=1)
        task, other = enqueue("shop.do"), enqueue("shop.do")
        Task.objects.filter(pk=task.pk).update(worker_id=77)
        Task.objects.filter(pk=other.pk).update(worker_id=78)
        for text in ("worker:web-3", "worker:web-3:12", "worker:77"):
            assert found(viewer, text) == {task.pk}
        assert "Did you mean worker:web-" in complaint(viewer, "worker:web-5")

    def test_an_incident_is_what_is_still_failed_of_it(self, viewer):
        alike, mended = failed("shop.do"), failed("shop.do")
        failed("shop.do")
        for task in (alike, mended):
            Task.objects.filter(pk=task.pk).update(fingerprint="f")
        mended.refresh_from_db()
        mended.complete(by="ann", reason="done")
        incident = Incident.objects.create(fingerprint="f", type="shop", action="do")
        assert found(viewer, f"incident:{incident.pk}") == {alike.pk}
        assert "There is no incident" in complaint(viewer, "incident:999")

    @pytest.mark.parametrize(
        ("text", "near"),
        [("state:falied", "failed"), ("state:waiting-for", "waiting"), ("state:Retry", "retrying")],
    )
    def test_a_state_that_is_none_is_explained_with_what_was_meant(self, viewer, text, near):
        assert f"Did you mean state:{near}?" in complaint(viewer, text)

    def test_everything_is_joined_by_and(self, viewer):
        task = in_state("failed", "shop.do", queue="crm")
        in_state("failed", "shop.do")
        in_state("due", "shop.do", queue="crm")
        in_state("failed", "shop.other", queue="crm")
        assert found(viewer, "state:failed queue:crm name:shop.do") == {task.pk}
        assert found(viewer, "state:failed state:due") == set()

    @pytest.mark.parametrize(
        ("text", "instead"),
        [
            ("failed", ["state:failed"]),
            ("Retry", ["state:retrying"]),
            ("due queue:crm", ["state:due queue:crm"]),
            ("failed due", ["state:failed", "state:due"]),
            ("failed OR due, failed", ["state:failed", "state:due"]),
            ("waiting for others", ["state:waiting"]),
            ("failed payment", []),
            ("1042", []),
        ],
    )
    def test_a_state_alone_is_looked_for_as_text_and_offered_as_a_state(
        self, viewer, text, instead
    ):
        match = matching(viewer, text)
        assert not match.errors
        assert match.instead == instead

    def test_a_state_is_offered_in_the_language_of_the_pages(self, viewer):
        with override("de"):
            assert matching(viewer, "fehlgeschlagen").instead == ["state:failed"]

    @pytest.mark.parametrize(
        ("text", "instead"),
        [
            ("state:failed,completed", ["state:failed", "state:completed"]),
            ("state:fail,Done queue:crm", ["state:failed queue:crm", "state:completed queue:crm"]),
            ("queue:crm,mail", ["queue:crm", "queue:mail"]),
            ("name:mail.send,crm.*", ["name:mail.send", "name:crm.*"]),
        ],
    )
    def test_several_values_with_commas_are_explained_and_offered_one_by_one(
        self, viewer, text, instead
    ):
        assert "one value alone" in complaint(viewer, text)
        assert matching(viewer, text).instead == instead

    def test_of_two_mistakes_nothing_is_offered_that_mends_only_one(self, viewer):
        assert matching(viewer, "state:failed,due stat:x").instead == ()

    def test_one_wrong_word_and_nothing_is_listed(self, viewer):
        in_state("failed")
        assert "stat" in complaint(viewer, "state:failed stat:due")

    def test_what_others_read_of_a_match(self, viewer):
        match = matching(viewer, "state:failed queue:crm")
        assert (match.states, match.queues) == ({"failed"}, {"crm"})
        assert matching(viewer, "").states is None
        assert match.explanation == "failed tasks in the queue crm"
        assert matching(viewer, "").explanation == "tasks"

    def test_every_state_is_one_sentence(self, viewer):
        for state in ("waiting", "later", "due", "running", "retrying", *State.values):
            if state != "scheduled":
                assert "tasks" in matching(viewer, f"state:{state}").explanation


def test_finished_tasks_that_were_slow_are_found_by_their_day(viewer):
    task = enqueue("shop.do")
    finish(task, State.COMPLETED)
    Task.objects.filter(pk=task.pk).update(created_at=timezone.now() - timedelta(days=3))
    assert found(viewer, "created:4d state:completed") == {task.pk}


def test_what_the_bench_searches_for_is_understood(viewer):
    failed("shop.do")
    Incident.objects.create(fingerprint="f", type="shop", action="do")
    queries = [QueryDict(urlsplit(address).query) for address in addresses().values()]
    searches = [query["q"] for query in queries if "q" in query]
    assert "created:<7d" in searches
    assert [matching(viewer, query).errors for query in searches] == [[]] * len(searches)


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "1e400"])
def test_a_number_that_json_does_not_have_is_text(viewer, number):
    task = enqueue("shop.do", {"x": number})
    enqueue("shop.do", {"x": 1})
    assert found(viewer, f"data.x:{number}") == {task.pk}


def test_a_number_of_thousands_of_digits_is_no_task(viewer):
    assert task_number("9" * 5000) is None
    assert task_number("#" + "0" * 5000 + "17") == 17
    assert task_number("0") == 0
