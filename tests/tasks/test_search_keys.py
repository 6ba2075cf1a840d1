"""Declared keys of the data, kept where an index finds them."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks import build, enqueue, enqueue_many, handler, search_keys
from tasks.models import SearchKey, Task

pytestmark = pytest.mark.django_db


@pytest.fixture
def declared():
    handler("crm.push", search=["customer.id", "tags", "note"])(lambda task: None)


def keys(task):
    return sorted(task.search_keys.values_list("key", "value"))


@pytest.mark.usefixtures("declared")
class TestWriting:
    @pytest.mark.parametrize(
        ("data", "wanted"),
        [
            ({"customer": {"id": 17}}, [("customer.id", "17")]),
            ({"customer": {"id": "17"}}, [("customer.id", "17")]),
            ({"customer": {"id": True}, "note": 1.5}, [("customer.id", "true"), ("note", "1.5")]),
            ({"tags": ["a", "b", "a", 3]}, [("tags", "3"), ("tags", "a"), ("tags", "b")]),
            ({"customer": {"id": None}, "note": {"deep": 1}, "tags": [[1], {}]}, []),
            ({"customer": "not an object", "note": ""}, []),
            ({}, []),
        ],
    )
    def test_values_become_text_and_lists_their_elements(self, data, wanted):
        assert keys(enqueue("crm.push", data)) == wanted

    def test_long_values_are_cut_and_long_lists_end(self):
        task = enqueue("crm.push", {"note": "ä" * 300, "tags": list(range(100))})
        assert ("note", "ä" * 200) in keys(task)
        assert len(keys(task)) == 21

    def test_many_tasks_are_one_statement(self):
        tasks = [build("crm.push", {"customer": {"id": n}}) for n in range(50)]
        with CaptureQueriesContext(
            connection,
        ) as asked:
            enqueue_many(tasks)
        assert len([query for query in asked if "tasks_searchkey" in query["sql"]]) == 1
        assert SearchKey.objects.count() == 50

    def test_changed_data_are_found_anew(self):
        task, other = enqueue("crm.push", {"note": "old"}), enqueue("crm.push", {"note": "old"})
        task.data = {"note": "new"}
        search_keys.renew("default", [task])
        assert keys(task) == [("note", "new")]
        assert keys(other) == [("note", "old")]

    def test_keys_go_with_their_task(self):
        enqueue("crm.push", {"note": "x"})
        Task.objects.all().delete()
        assert not SearchKey.objects.exists()


def test_tasks_without_declared_keys_cost_nothing():
    enqueue("shop.do")
    with CaptureQueriesContext(
        connection,
    ) as asked:
        enqueue("shop.do", {"customer": {"id": 17}})
    assert not [query for query in asked if "tasks_searchkey" in query["sql"]]
