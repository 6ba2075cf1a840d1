"""The list of tasks: rows, pages, filters, what it asks the database."""

import re

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orders.models import Order
from tasks import build, enqueue, enqueue_many
from tasks.dashboard import window
from tasks.models import Queue, Task
from tests.tasks.admin_rows import EVERYTHING, LIST, failed, in_state, shown_ids, staff, text_of
from tests.workload.models import Record

pytestmark = pytest.mark.django_db

STATES = ("waiting", "later", "due", "running", "retrying", "failed", "completed", "cancelled")


@pytest.fixture
def client():
    return staff("view_task")


def order(**values):
    return Order.objects.create(customer="Ann", email="ann@example.com", **values)


def tasks_of(records):
    return enqueue_many([build("shop.do", record=record) for record in records])


def queries_of(client, address):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        response = client.get(address)
    assert response.status_code == 200
    return [query["sql"] for query in captured], response


def link(response, words):
    """The address behind a link, as a browser would follow it."""
    found = re.search(rf'<a [^>]*href="([^"]*)"[^>]*>[^<]*{words}', text_of(response))
    return found and LIST + found[1].replace("&amp;", "&")


class TestQueries:
    def test_a_page_of_50_rows_needs_as_many_queries_as_one_of_10(self):
        client = staff(*EVERYTHING, "bulk_task", "export_task")
        tasks_of([Record.objects.create(name=f"r{n}") for n in range(5)])
        tasks_of([order() for _ in range(5)])
        ContentType.objects.clear_cache()
        few, response = queries_of(client, f"{LIST}?q=name:shop.do")
        assert len(shown_ids(response)) == 10
        tasks_of([Record.objects.create(name=f"r{n}") for n in range(25)])
        tasks_of([order() for _ in range(25)])
        ContentType.objects.clear_cache()
        many, response = queries_of(client, f"{LIST}?q=name:shop.do")
        assert len(shown_ids(response)) == 50
        assert len(many) <= min(len(few) + 1, 25)  # + 1: where the window ends

    def test_records_bring_what_their_own_admin_page_asks_for_with_them(self, client):
        class Rights(admin.ModelAdmin):
            def get_list_select_related(self, request):
                return ["content_type"]

        admin.site.register(Permission, Rights)
        try:
            tasks_of(Permission.objects.all()[:5])
            asked, response = queries_of(client, LIST)
        finally:
            admin.site.unregister(Permission)
        (shown,) = [sql for sql in asked if re.search("auth_permission.[.].id. IN", sql)]
        assert "app_label" in shown.partition("FROM")[0]
        assert "log entry | Can add log entry" in text_of(response)

    def test_no_page_counts_or_reads_payloads(self, client):
        tasks_of([order() for _ in range(3)])
        enqueue("shop.big", {"secret": "payload"})
        for query in ("", "?q=state:due", "?q=shop.do", "?before=3", "?q=queue:default"):
            for sql in queries_of(client, f"{LIST}{query}")[0]:
                assert "COUNT(" not in sql.upper()
                assert "DISTINCT" not in sql.upper()
                assert '"tasks_task"."data"' not in sql
                assert "`tasks_task`.`data`" not in sql


class TestPages:
    @pytest.fixture
    def made(self):
        return sorted(
            (t.pk for t in enqueue_many([build("shop.do") for _ in range(120)])), reverse=True
        )

    def test_older_pages_follow_each_other_without_gap_or_overlap(self, client, made):
        seen, address = [], LIST
        while address:
            response = client.get(address)
            seen.append(shown_ids(response))
            address = link(response, "Older")
        assert [pk for page in seen for pk in page] == made
        assert [len(page) for page in seen] == [50, 50, 20]

    @pytest.mark.parametrize("query", ["", "name:shop.do", "state:due", "queue:default"])
    def test_newer_leads_back_the_way_one_came(self, client, made, query):
        first = client.get(LIST, {"q": query})
        second = client.get(link(first, "Older"))
        third = client.get(link(second, "Older"))
        assert shown_ids(client.get(link(third, "← Newer"))) == shown_ids(second)
        assert shown_ids(client.get(link(second, "← Newer"))) == shown_ids(first)
        assert shown_ids(client.get(link(third, "Newest"))) == shown_ids(first)

    def test_the_newest_page_has_nothing_newer_and_the_oldest_nothing_older(self, client, made):
        assert "Newer" not in text_of(client.get(LIST))
        assert "Older →" not in text_of(client.get(f"{LIST}?before={made[-20]}"))

    def test_the_newest_page_reached_upwards_does_not_lead_to_itself(self, client, made):
        for query in ("", "?q=state:due"):
            second = client.get(link(client.get(f"{LIST}{query}"), "Older"))
            top = client.get(link(second, "← Newer"))
            top = client.get(link(top, "← Newer") or link(top, "Newest"))
            assert shown_ids(top) == made[:50]
            assert link(top, "← Newer") is None

    def test_a_search_upwards_goes_on_where_it_ended(self, client, monkeypatch):
        monkeypatch.setattr(window, "STEPS", (2,))
        crm, *_others, wanted = (
            enqueue("shop.do", queue=queue).pk for queue in ("crm", *"abcd", "crm")
        )
        response = client.get(f"{LIST}?q=queue:crm&after={crm}")
        seen = []
        while address := link(response, "← Search further ahead"):
            assert "Nothing was found so far." in text_of(response)
            assert "Searched ahead to" in text_of(response)
            assert "Search further back" not in text_of(response)
            seen.append(address)
            response = client.get(address)
        assert len(seen) == 2
        assert shown_ids(response)[0] == wanted

    def test_what_came_meanwhile_does_not_push_rows_from_page_to_page(self, client, made):
        first = client.get(LIST)
        enqueue_many([build("shop.do") for _ in range(7)])
        assert shown_ids(client.get(link(first, "Older"))) == made[50:100]

    def test_jump_to_time_shows_what_was_created_before_it(self, client, made):
        Task.objects.filter(pk__lte=made[60]).update(created_at="2020-05-01T00:00:00Z")
        response = client.get(f"{LIST}?q=state:due&at=2021-01-01T00:00", follow=True)
        assert response.redirect_chain == [(f"{LIST}?q=state%3Adue&before={made[59]}", 302)]
        assert shown_ids(response)[0] == made[60]
        assert shown_ids(client.get(link(response, "← Newer")))[-1] == made[59]

    @pytest.mark.parametrize("key", ["before", "after", "at"])
    @pytest.mark.parametrize("value", ["x", "-3", "9" * 40, "", "٣", "\x00"])
    def test_nonsense_in_the_address_is_no_error(self, client, made, key, value):
        assert client.get(LIST, {key: value}).status_code == 200

    def test_a_page_behind_the_last_one_says_so(self, client, made):
        page = text_of(client.get(f"{LIST}?before={made[-1]}"))
        assert "There is nothing this far back." in page
        assert "Go to the newest tasks" in page


class TestFilters:
    @pytest.mark.parametrize("state", STATES)
    def test_each_state_is_a_word_and_a_filter(self, client, state):
        wanted = in_state(state)
        for other in STATES:
            if other != state:
                in_state(other)
        response = client.get(f"{LIST}?q=state:{state}")
        assert wanted.pk in shown_ids(response)
        assert {Task.objects.get(pk=pk).shown_state for pk in shown_ids(response)} == {state}
        word = "waiting for others" if state == "waiting" else state
        assert f"</span>{word}</span>" in text_of(response)
        assert f'href="?q=state%3A{state}" aria-current="true"' in text_of(response)

    def test_queues_to_filter_by_come_from_the_queue_table(self, client):
        Queue.objects.create(name="crm & more")
        enqueue("shop.do", queue="crm & more")
        enqueue("shop.do", queue="unmet")
        page = text_of(client.get(LIST))
        assert "?q=queue%3A%22crm+%26+more%22" in page
        assert "unmet</a>" not in page
        assert len(shown_ids(client.get(f"{LIST}?q=queue%3A%22crm+%26+more%22"))) == 1

    def test_a_filter_keeps_the_rest_of_the_search(self, client):
        page = text_of(client.get(f"{LIST}?q=state:failed+queue:crm+name:email.*"))
        assert "?q=state%3Adue+queue%3Acrm+name%3Aemail.%2A" in page
        assert "?q=queue%3Acrm+name%3Aemail.%2A" in page  # any state

    def test_old_tasks_are_left_out_by_a_time(self, client):
        old, new = enqueue("shop.do"), enqueue("shop.do")
        Task.objects.filter(pk=old.pk).update(created_at="2020-01-01T00:00:00Z")
        assert shown_ids(client.get(f"{LIST}?q=created:1h")) == [new.pk]
        assert shown_ids(client.get(f"{LIST}?q=created:<2020-01-02")) == [old.pk]

    @pytest.mark.parametrize("lookup", ["data__password=x", "reason__contains=x", "id=1", "o=1"])
    def test_no_column_can_be_probed_or_sorted_by_address(self, client, lookup):
        made = [enqueue("shop.do", {"password": "x"}).pk for _ in range(2)]
        assert shown_ids(client.get(f"{LIST}?{lookup}")) == made[::-1]

    def test_the_search_is_explained_in_plain_words(self, client):
        page = text_of(client.get(f"{LIST}?q=state:failed+queue:crm+created:>2026-11-20"))
        assert "Shown: failed tasks in the queue crm, created after Nov. 20, 2026." in page

    @pytest.mark.parametrize("query", ["stat:failed", "state:falied", "created:yesterday"])
    def test_what_is_not_understood_lists_nothing_and_is_explained(self, client, query):
        enqueue("shop.do")
        response = client.get(LIST, {"q": query})
        assert shown_ids(response) == []
        assert 'role="alert"' in text_of(response)
        assert f'value="{query}"' in text_of(response)
        assert "Nothing is listed until this is mended." in text_of(response)

    @pytest.mark.parametrize("query", ["failed", "state:failed,due", "state:failed OR state:due"])
    def test_what_may_have_been_meant_is_a_link(self, client, query):
        response = client.get(LIST, {"q": query})
        assert shown_ids(response) == []
        assert '<a href="?q=state%3Afailed"><code>state:failed</code></a>' in text_of(response)


class TestRows:
    def test_a_row_says_what_failed_and_why_in_one_redacted_line(self, client):
        task = failed("shop.do")
        Task.objects.filter(pk=task.pk).update(reason="smtp://shop:hunter2@mail refused")
        page = text_of(client.get(LIST))
        assert "smtp://shop:[redacted]@mail refused" in page
        assert "hunter2" not in page

    def test_a_task_that_waits_says_for_what(self, client):
        task = in_state("waiting")
        assert f"#{task.pk - 1}" in text_of(client.get(f"{LIST}?q=id:{task.pk}"))

    def test_rows_ticks_and_folds_are_named_after_their_task(self):
        client = staff(*EVERYTHING)
        task = failed("shop.do")
        page = text_of(client.get(LIST))
        for element in ("task", "tick", "fold-more"):
            assert f'id="af-{element}-{task.pk}"' in page
        assert f'formaction="{LIST}{task.pk}/retry/"' in page

    def test_who_may_only_look_sees_no_ticks_and_no_buttons(self, client):
        failed("shop.do")
        page = text_of(client.get(LIST))
        assert 'name="ticked"' not in page
        assert "formaction" not in page
        assert "Export as CSV" not in page

    def test_bulk_actions_are_offered_that_fit_the_state_and_the_rights(self):
        client = staff("view_task", "retry_task", "cancel_task", "bulk_task")
        page = text_of(client.get(f"{LIST}?q=state:failed"))
        assert f"{LIST}bulk/new/?q=state%3Afailed&amp;action=retry" in page
        assert "action=cancel" not in page
        assert "action=complete" not in page
        assert "bulk/new/" not in text_of(client.get(LIST))
        assert "bulk/new/" not in text_of(client.get(f"{LIST}?q=stat:x"))

    def test_how_many_match_is_said_where_it_costs_nothing(self, client):
        for _ in range(3):
            in_state("failed")
        page = text_of(client.get(f"{LIST}?q=state:failed"))
        assert re.search(r'id="af-count"[^>]*>3<', page)

    def test_a_record_is_a_link_to_its_story(self, client):
        one = order()
        assert f'href="{LIST}record/orders/order/{one.pk}/">Order {one.number}<' in text_of(
            client.get(LIST)
        )

    def test_a_deleted_record_is_named(self, client):
        one = order()
        key = one.pk
        one.delete()
        assert f"Order {key} (deleted)" in text_of(client.get(LIST))

    def test_a_str_that_raises_does_not_break_the_page(self, client, monkeypatch):
        one = order()
        monkeypatch.setattr(Order, "__str__", lambda self: 1 / 0)
        assert f"Order {one.pk}" in text_of(client.get(LIST))

    def test_a_key_or_model_that_makes_no_sense_does_not_break_the_page(self, client):
        strange, stale = enqueue("shop.do"), enqueue("shop.do")
        model = ContentType.objects.get_for_model(Order)
        Task.objects.filter(pk=strange.pk).update(content_type=model, object_id="abc")
        Task.objects.filter(pk=stale.pk).update(content_type_id=987654, object_id="1")
        page = text_of(client.get(LIST))
        assert "Order abc (deleted)" in page
        assert "Record 1 (deleted)" in page

    def test_what_a_record_and_a_task_say_is_escaped(self, client, monkeypatch):
        order()
        task = failed("shop.do")
        Task.objects.filter(pk=task.pk).update(reason="<script>r</script>")
        monkeypatch.setattr(Order, "__str__", lambda self: "<script>o</script>")
        page = text_of(client.get(LIST))
        assert "<script>r" not in page
        assert "<script>o" not in page
        assert "&lt;script&gt;r" in page

    @pytest.mark.parametrize(
        "query", ["<b>", '"<script>x"', "stat:<b>", 'queue:"<i>"', "created:<b"]
    )
    def test_a_search_full_of_markup_is_shown_as_text(self, client, query):
        page = text_of(client.get(LIST, {"q": query}))
        for markup in ("<b>", "<script>x", "<i>"):
            assert markup not in page
        assert "&lt;" in page


class TestEmpty:
    def test_an_empty_list_says_what_will_come(self, client):
        assert "There are no tasks yet." in text_of(client.get(LIST))

    def test_a_search_without_a_hit_says_what_was_looked_for(self, client):
        enqueue("shop.do")
        page = text_of(client.get(f"{LIST}?q=state:failed"))
        assert "There are no failed tasks." in page
        assert "Show all tasks" in page

    def test_who_may_not_see_tasks_gets_no_list(self):
        assert staff("retry_task").get(LIST).status_code == 403


class TestScope:
    @pytest.fixture
    def narrow(self, settings):
        settings.AFTERSAVE = {
            **settings.AFTERSAVE,
            "VISIBLE_TASKS": lambda user, tasks: tasks.filter(queue="crm"),
        }

    @pytest.mark.usefixtures("narrow")
    def test_tasks_outside_the_scope_are_on_no_page(self):
        client = staff(*EVERYTHING, "export_task")
        client.force_login(User.objects.create_superuser("root"))
        mine = failed("shop.do", queue="crm")
        other = failed("shop.do", queue="default")
        for query in (
            "",
            "state:failed",
            "name:shop.do",
            f"id:{mine.pk},{other.pk}",
            "error:broke",
        ):
            assert shown_ids(client.get(LIST, {"q": query})) == [mine.pk], query
            exported = b"".join(client.get(f"{LIST}export.csv", {"q": query})).decode()
            assert f"\n{mine.pk}," in exported
            assert f"\n{other.pk}," not in exported

    @pytest.mark.usefixtures("narrow")
    def test_when_others_tasks_were_created_is_not_told(self, settings, monkeypatch):
        monkeypatch.setattr(window, "STEPS", (2,))
        client = staff(*EVERYTHING)
        failed("shop.do", queue="crm")
        enqueue_many([build("shop.do", queue="default") for _ in range(5)])
        page = text_of(client.get(LIST, {"q": "error:broke"}))
        assert "Search further back" in page
        assert "Searched back to" not in page
        settings.AFTERSAVE = {**settings.AFTERSAVE, "VISIBLE_TASKS": None}
        assert "Searched back to" in text_of(client.get(LIST, {"q": "error:broke"}))
