"""Reading a page by key: bounded, in order, without gap; and where a moment lies among the ids."""

import time
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tasks import build, enqueue, enqueue_many, handler
from tasks.dashboard import window
from tasks.dashboard.counting import Count, count
from tasks.dashboard.keyset import ends, id_at
from tasks.dashboard.matching import matching
from tasks.dashboard.patience import OutOfTime, patience
from tasks.dashboard.viewer import Viewer
from tasks.dashboard.window import Found, read
from tasks.models import Failure, State, Task
from tests.tasks.tools import finish

pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer():
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root")
    return Viewer(request, admin.site)


@pytest.fixture
def small_window(monkeypatch):
    """Twelve rows in three steps."""
    monkeypatch.setattr(window, "STEPS", (2, 4, 6))


def many(count, **options):
    return [task.pk for task in enqueue_many([build("shop.do", **options) for _ in range(count)])]


def retrying(count):
    """Newest first."""
    ids = many(count, delay=3600)
    Task.objects.filter(pk__in=ids).update(attempts=2)
    return ids[::-1]


def all_pages(match, **options):
    pages, before = [], None
    while True:
        found = read(match, before=before, **options)
        pages.append(found)
        if found.older is None:
            return pages
        before = found.older


SEARCHES = (
    "",
    "state:due",
    "queue:default",
    "name:shop.do",
    "error:broke",
    "state:failed",
    "shop.",
)


class TestOrder:
    @pytest.mark.parametrize("query", SEARCHES)
    @pytest.mark.parametrize("size", [1, 3, 50])
    def test_pages_hold_everything_once_newest_first(self, viewer, query, size):
        for index in range(7):
            many(1)
            if index % 2:
                finish(enqueue("shop.do"), State.FAILED, reason="it broke")
        match = matching(viewer, query)
        pages = all_pages(match, size=size)
        ids = [pk for page in pages for pk in page.ids]
        assert ids == list(match.queryset.order_by("-pk").values_list("pk", flat=True))
        assert all(len(page.ids) == size for page in pages[:-1])

    @pytest.mark.parametrize("query", ["", "state:due", "queue:default"])
    def test_a_page_read_upwards_is_the_one_above(self, viewer, query):
        ids = many(10)[::-1]
        match = matching(viewer, query)
        assert read(match, after=ids[6], size=3).ids == ids[3:6]
        assert read(match, after=ids[6], size=3).older == ids[5]
        # Less than a page is above: the newest page.
        assert read(match, after=ids[2], size=3).ids == ids[:3]
        assert read(match, after=ids[1], size=3).ids == ids[:3]

    def test_a_search_that_is_wrong_finds_nothing(self, viewer):
        many(3)
        assert read(matching(viewer, "stat:due")) == Found()


@pytest.mark.usefixtures("small_window")
class TestBounds:
    def test_what_no_index_serves_is_looked_for_in_the_window_alone(self, viewer):
        old = many(3, queue="crm")
        others = many(12)
        found = read(matching(viewer, "queue:crm"))
        assert found.ids == []
        assert found.reached == found.older == others[0]
        further = read(matching(viewer, "queue:crm"), before=found.older)
        assert further.ids == old[::-1]
        assert further.reached is further.older is None

    def test_what_was_found_in_a_window_is_shown_though_the_page_is_not_full(self, viewer):
        many(5)
        (wanted,) = many(1, queue="crm")
        others = many(8)
        found = read(matching(viewer, "queue:crm"))
        assert found.ids == [wanted]
        assert found.reached == others[0] - 4

    def test_other_filters_decide_which_rows_fill_the_window(self, viewer):
        wanted = enqueue("shop.do", queue="crm")
        finish(wanted, State.FAILED)
        many(50)
        assert read(matching(viewer, "state:failed queue:crm")).ids == [wanted.pk]
        assert read(matching(viewer, "queue:crm")).ids == []

    def test_a_window_goes_upwards_too(self, viewer):
        first = many(1)[0]
        many(12)
        (wanted,) = many(1, queue="crm")
        match = matching(viewer, "queue:crm")
        found = read(match, after=first)
        assert found.ids == []
        assert found.reached is not None
        assert read(match, after=found.reached).ids == [wanted]

    def test_a_time_is_jumped_to_before_the_window_begins(self, viewer):
        old = many(4)
        Task.objects.filter(pk__in=old).update(created_at="2020-01-02T00:00:00Z")
        many(3000)
        assert read(matching(viewer, "created:<2021-01-01")).ids[:4] in ([], old[::-1])
        found = all_pages(matching(viewer, "created:<2021-01-01"), size=10)
        assert [pk for page in found for pk in page.ids] == old[::-1]

    def test_errors_that_are_turned_down_at_last_do_not_end_the_search(self, viewer):
        wanted = finish(enqueue("shop.do"), State.FAILED, reason="hunter2 caught")
        for _ in range(4):
            task = finish(enqueue("shop.do"), State.FAILED, reason="failed")
            Failure.objects.create(task=task, attempt=1, exception="x", message="token=hunter2")
        pages = all_pages(matching(viewer, "error:hunter2"), size=1)
        assert [pk for page in pages for pk in page.ids] == [wanted.pk]

    def test_a_scope_is_looked_for_in_the_window_too(self, viewer, settings):
        settings.AFTERSAVE = {
            **settings.AFTERSAVE,
            "VISIBLE_TASKS": lambda user, tasks: tasks.filter(queue="crm"),
        }
        many(1, queue="crm")
        others = many(12)
        assert read(matching(viewer, "")).reached == others[0]

    def test_how_far_a_declared_key_was_looked_for_tells_nothing_of_others(
        self, viewer, settings, monkeypatch
    ):
        handler("crm.push", search=["customer.id"])(lambda task: None)
        monkeypatch.setattr(window, "KEY_STEPS", (2, 2))
        options = [{"queue": "crm"}] * 5 + [{}] * 9
        tasks = [build("crm.push", {"customer": {"id": 17}}, **option) for option in options]
        ids = [task.pk for task in enqueue_many(tasks)]
        settings.AFTERSAVE = {
            **settings.AFTERSAVE,
            "VISIBLE_TASKS": lambda user, tasks: tasks.filter(queue="crm"),
        }
        mine = ids[4::-1]
        first = read(matching(viewer, "data.customer.id:17"))
        assert (first.ids, first.reached, first.older) == (mine[:4], mine[3], mine[3])
        rest = read(matching(viewer, "data.customer.id:17"), before=first.older)
        assert (rest.ids, rest.reached, rest.older) == (mine[4:], None, None)


class TestFew:
    def test_a_state_with_few_tasks_is_found_wherever_they_lie(self, viewer, monkeypatch):
        monkeypatch.setattr(window, "STEPS", (2,))
        later = many(2, delay=3600)
        many(20)
        found = read(matching(viewer, "state:later"))
        assert found.ids == later[::-1]
        assert found.total == 2

    def test_a_state_with_many_is_looked_for_in_the_window(self, viewer, monkeypatch):
        monkeypatch.setattr(window, "STEPS", (2,))
        monkeypatch.setattr(window, "SOME", 2)
        monkeypatch.setattr(window, "FEW", 3)
        old = many(3, delay=3600)
        many(2)
        assert read(matching(viewer, "state:later")) == Found(old[::-1], total=3)
        old += many(1, delay=3600)
        many(2)
        assert read(matching(viewer, "state:later")).ids == []
        found = all_pages(matching(viewer, "state:later"))
        assert [pk for page in found for pk in page.ids] == old[::-1]

    def test_what_would_be_found_beside_too_many_is_looked_for_in_the_window(
        self, viewer, monkeypatch
    ):
        monkeypatch.setattr(window, "STEPS", (2,))
        monkeypatch.setattr(window, "FEW", 5)
        (later,) = many(1, delay=3600)
        many(2)
        retrying(5)
        assert read(matching(viewer, "state:later")) == Found([later], total=1)
        retrying(1)
        assert read(matching(viewer, "state:later")).ids == []
        found = all_pages(matching(viewer, "state:later"))
        assert [pk for page in found for pk in page.ids] == [later]

    def test_what_is_tried_again_is_found_among_any_number_to_come(self, viewer, monkeypatch):
        monkeypatch.setattr(window, "STEPS", (2,))
        monkeypatch.setattr(window, "FEW", 5)
        tried = retrying(3)
        many(9, delay=3600)
        match = matching(viewer, "state:retrying")
        assert read(match).ids == tried
        assert [pk for page in all_pages(match, size=2) for pk in page.ids] == tried

    def test_a_declared_key_is_found_wherever_its_tasks_lie(self, viewer, monkeypatch):
        handler("crm.push", search=["customer.id"])(lambda task: None)
        monkeypatch.setattr(window, "STEPS", (2,))
        tasks = [build("crm.push", {"customer": {"id": 17}}) for _ in range(7)]
        wanted = [task.pk for task in enqueue_many(tasks)][::-1]
        many(20)
        match = matching(viewer, "data.customer.id:17")
        assert read(match).ids == wanted
        assert [pk for page in all_pages(match, size=2) for pk in page.ids] == wanted
        assert read(match, after=wanted[4], size=2).ids == wanted[2:4]


class TestTime:
    def test_what_takes_too_long_is_given_up_and_said(self, viewer):
        many(3)
        assert read(matching(viewer, "queue:crm"), seconds=0).gave_up

    def test_a_slow_question_is_ended_by_the_database(self):
        started = time.monotonic()
        with pytest.raises(OutOfTime):
            self.ask_something_endless()
        assert time.monotonic() - started < 10
        Task.objects.first()  # the connection still works

    def ask_something_endless(self):
        endless = {
            "postgresql": "SELECT pg_sleep(60)",
            "mysql": "SELECT COUNT(*) FROM "
            + ", ".join(f"information_schema.collations c{n}" for n in range(6)),
            "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "SELECT max(i) FROM n",
        }
        with patience("default", 0.5), connection.cursor() as cursor:
            cursor.execute(endless[connection.vendor])

    def test_patience_leaves_no_setting_behind(self):
        with patience("default", 5):
            pass
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                for name in ("statement_timeout", "enable_seqscan", "enable_sort"):
                    cursor.execute(f"SELECT current_setting('{name}')")
                    assert cursor.fetchone()[0] in ("0", "on")


def a_minute_apart(count):
    """When the first of so many tasks was created, ten days ago, and the ids of all."""
    start = timezone.now() - timedelta(days=10)
    tasks = [build("shop.do") for _ in range(count)]
    for index, task in enumerate(tasks):
        task.created_at = start + timedelta(minutes=index)
    return start, [task.pk for task in enqueue_many(tasks)]


class TestIdAt:
    def test_a_moment_is_found_by_a_few_questions_by_key(self):
        start, ids = a_minute_apart(1500)
        known = ends()
        for index in (0, 1, 77, 700, 1499):
            with CaptureQueriesContext(
                connection,
            ) as asked:
                assert id_at(start + timedelta(minutes=index), known) == ids[index]
            assert len(asked) <= 3
        assert id_at(start - timedelta(days=1), known) == ids[0]
        assert id_at(timezone.now(), known) == ids[-1] + 1

    def test_missing_ids_are_no_obstacle(self):
        start, ids = a_minute_apart(2000)
        kept = [ids[0], ids[3], ids[1000], ids[1999]]
        Task.objects.exclude(pk__in=kept).delete()
        assert id_at(start + timedelta(minutes=500), ends()) in range(ids[3] + 1, ids[1000] + 1)

    @pytest.fixture
    def far_apart(self):
        """A thousand rows, one a minute, among two billion ids."""
        _start, ids = a_minute_apart(1000)
        Task.objects.update(id=(F("id") - ids[0]) * 100 + ids[-1] + 10**9)
        for pk, days in ((1, 20), (ids[-1] + 2 * 10**9, 0)):
            task = build("shop.do")
            task.created_at = timezone.now() - timedelta(days=days)
            enqueue_many([task])
            Task.objects.filter(pk=task.pk).update(id=pk)
        return list(Task.objects.order_by("pk").values_list("pk", "created_at"))

    def test_nor_is_it_that_most_of_two_billion_are(self, far_apart):
        for index in (1, 2, 77, 700, 1000, 1001):
            with CaptureQueriesContext(
                connection,
            ) as asked:
                found = id_at(far_apart[index][1], ends())
            assert far_apart[index - 1][0] < found <= far_apart[index][0]
            assert len(asked) <= 10

    def test_a_span_is_found_where_most_ids_are_missing(self, viewer, far_apart):
        first, last = far_apart[300][1], far_apart[400][1]
        text = f"created:{first.isoformat()}..{last.isoformat()}"
        with CaptureQueriesContext(
            connection,
        ) as asked:
            found = read(matching(viewer, text), size=200)
        assert found.ids == [pk for pk, _at in far_apart[300:400]][::-1]
        assert len(asked) <= 20

    def test_one_task_that_was_built_long_before_it_was_written_misleads_nobody(self):
        start = timezone.now() - timedelta(days=10)
        tasks = [build("shop.do") for _ in range(1000)]
        for index, task in enumerate(tasks):
            task.created_at = start + timedelta(minutes=index)
        tasks[900].created_at = start
        ids = [task.pk for task in enqueue_many(tasks)]
        assert abs(id_at(start + timedelta(minutes=500), ends()) - ids[500]) <= 1


class TestCount:
    def test_exact_up_to_the_limit(self, viewer):
        many(5)
        assert count(matching(viewer, "state:due"), 5) == Count(5)
        assert count(matching(viewer, "state:due"), 4).exact is False
        assert count(matching(viewer, "state:due"), 4).number >= 4

    def test_no_statement_counts(self, viewer):
        many(5)
        with CaptureQueriesContext(
            connection,
        ) as asked:
            count(matching(viewer, "state:due"))
        assert not [query for query in asked if "COUNT(" in query["sql"].upper()]

    def test_about_as_many_is_marked(self):
        assert str(Count(1234)) == "1,234"
        assert str(Count(1234567, exact=False)) == "≈ 1,234,567"


class TestSecrets:
    """What stands in a secret is found by the database, and must not show."""

    @pytest.mark.parametrize("down", [True, False])
    def test_how_far_was_searched_does_not_tell_of_them(self, viewer, small_window, down):
        for index in range(30):
            secret = f"password=hunter2{'ab'[index % 2]}"
            finish(enqueue("shop.do"), State.FAILED, reason=f"refused {secret}")
        start = {"before": None} if down else {"after": 1}
        guesses = ("hunter2a", "hunter2b", "hunter2c", "nothing")
        seen = [read(matching(viewer, f"error:{guess}"), size=2, **start) for guess in guesses]
        assert all(one == seen[-1] for one in seen)

    def test_what_is_shown_is_found_behind_many_secrets(self, viewer):
        old = finish(enqueue("shop.do"), State.FAILED, reason="hunter2 escaped")
        for _ in range(7):
            finish(enqueue("shop.do"), State.FAILED, reason="password=hunter2")
        assert read(matching(viewer, "error:hunter2"), size=2).ids == [old.pk]

    def test_more_than_can_be_counted_tells_nothing_either(self, viewer):
        for _ in range(5):
            finish(enqueue("shop.do"), State.FAILED, reason="password=hunter2")
        for guess in ("hunter2", "hunter3"):
            assert count(matching(viewer, f"error:{guess}"), 3) == Count(0)
        for _ in range(5):
            finish(enqueue("shop.do"), State.FAILED, reason="the box is full")
        counted = count(matching(viewer, "error:full"), 3)
        assert (counted.number >= 3, counted.exact) == (True, False)

    def test_out_of_time_means_no_number(self, viewer):
        finish(enqueue("shop.do"), State.FAILED, reason="password=hunter2")
        counts = [count(matching(viewer, f"error:{g}"), seconds=0) for g in ("hunter2", "x")]
        assert counts == [Count(0, exact=False)] * 2
