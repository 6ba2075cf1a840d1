"""A filtered list as CSV."""

import asyncio
import codecs
import csv
import io
import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext

from tasks import build, enqueue, enqueue_many
from tasks.dashboard import window
from tasks.dashboard.pages import export
from tasks.models import State, Task
from tests.tasks.admin_rows import LIST, failed, in_state, staff
from tests.tasks.tools import finish
from tests.workers.tools import end_other_sessions
from tests.workload.models import Record

pytestmark = pytest.mark.django_db

ADDRESS = f"{LIST}export.csv"


def text_of(response):
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/csv; charset=utf-8")
    return b"".join(response).decode("utf-8-sig")


def rows_of(response):
    return list(csv.DictReader(io.StringIO(text_of(response), newline="")))


@pytest.fixture
def client():
    return staff("view_task", "export_task")


def test_it_holds_what_the_list_finds_newest_first(client):
    record = Record.objects.create(name="r")
    first = in_state("failed", record=record)
    in_state("due")
    second = in_state("failed")
    rows = rows_of(client.get(ADDRESS, {"q": "state:failed"}))
    assert [row["id"] for row in rows] == [str(second.pk), str(first.pk)]
    assert rows[1]["record"] == f"workload.record/{record.pk}"
    assert rows[1]["state"] == "failed"
    assert rows[1]["reason"] == "it broke"
    assert rows[1]["created_at"] == first.created_at.isoformat(timespec="milliseconds")


def test_it_is_a_file_named_after_the_day(client):
    assert 'attachment; filename="tasks-20' in client.get(ADDRESS)["Content-Disposition"]


def test_excel_reads_it_as_utf_8(client):
    in_state("failed")
    assert b"".join(client.get(ADDRESS)).startswith(codecs.BOM_UTF8 + b"id,")


def test_data_are_only_in_the_file_of_who_may_see_them(client):
    enqueue("shop.do", {"to": "ann", "password": "hunter2"})
    (row,) = rows_of(client.get(ADDRESS))
    assert "data" not in row
    (row,) = rows_of(staff("view_task", "export_task", "view_task_data", name="bob").get(ADDRESS))
    assert '"to": "ann"' in row["data"]
    assert "hunter2" not in row["data"]
    assert "[redacted]" in row["data"]


def test_of_data_that_are_very_long_only_the_beginning_is_read():
    client = staff("view_task", "export_task", "view_task_data")
    enqueue("shop.do", {"note": "short"})
    enqueue("shop.do", {"lines": ["a line of text"] * 50_000})
    with CaptureQueriesContext(
        connection,
    ) as asked:
        long, short = rows_of(client.get(ADDRESS))
    assert long["data"].startswith('{\n  "lines": [\n    "a line of text",')
    assert "more characters" in long["data"]
    assert short["data"] == '{\n  "note": "short"\n}'
    whole = re.compile(r'SELECT [^(]*["`]tasks_task["`]\.["`](data|result)["`]')
    assert not [query["sql"] for query in asked if whole.match(query["sql"])]


def test_results_are_in_their_column():
    client = staff("view_task", "export_task", "view_task_data")
    for result in (None, "{}", "0", '{"id": 1}'):
        finish(enqueue("shop.do"), State.COMPLETED, result=result)
    rows = rows_of(client.get(ADDRESS))[::-1]
    assert [row["result"] for row in rows] == ["", "{}", "0", '{\n  "id": 1\n}']
    assert {row["data"] for row in rows} == {"{}"}


def test_secrets_in_reasons_are_redacted(client):
    task = failed("shop.do")
    Task.objects.filter(pk=task.pk).update(reason="smtp://shop:hunter2@mail")
    assert "hunter2" not in text_of(client.get(ADDRESS))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "  ="])
def test_no_cell_is_taken_for_a_formula(client, start):
    task = failed("shop.do")
    evil = f'{start}cmd|"/c calc"!A1'
    Task.objects.filter(pk=task.pk).update(reason=evil)
    (row,) = rows_of(client.get(ADDRESS))
    assert row["reason"] == f"'{evil}"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", " =", '"='])
@pytest.mark.parametrize("end", [";", "\n"])
def test_nor_what_follows_a_semicolon_where_excel_splits_lines_at_them(client, end, start):
    task = failed("shop.do")
    Task.objects.filter(pk=task.pk).update(reason=f'a "b", c{end}{start}1+cmd|"/c calc"!A1;d')
    response = client.get(ADDRESS)
    lines = b"".join(response.streaming_content).decode("utf-8-sig").splitlines()
    cells = [cell for line in lines for cell in line.split(";")]
    assert not [cell for cell in cells if cell.lstrip(' "').startswith(start.strip(' "'))]


def test_quotes_commas_and_lines_stay_in_their_cell(client):
    task = failed("shop.do")
    Task.objects.filter(pk=task.pk).update(reason='a "b", c\nd; ü')
    (row,) = rows_of(client.get(ADDRESS))
    assert row["reason"] == 'a "b", c\nd; ü'


def test_it_ends_at_the_most_rows_and_says_so(client, monkeypatch):
    monkeypatch.setattr(export, "MOST_ROWS", 7)
    monkeypatch.setattr(export, "CHUNK", 3)
    made = [task.pk for task in enqueue_many([build("shop.do") for _ in range(10)])]
    rows = rows_of(client.get(ADDRESS))
    assert [row["id"] for row in rows[:-1]] == [str(pk) for pk in made[::-1][:7]]
    assert rows[-1]["id"] == "# There is more: only 7 rows are exported."


def test_chunks_follow_each_other_without_gap(client, monkeypatch):
    monkeypatch.setattr(export, "CHUNK", 3)
    made = [task.pk for task in enqueue_many([build("shop.do") for _ in range(10)])]
    assert [row["id"] for row in rows_of(client.get(ADDRESS))] == [str(pk) for pk in made[::-1]]


def test_a_search_that_was_bounded_says_so(client, monkeypatch):
    monkeypatch.setattr(window, "STEPS", (2, 2))
    enqueue("shop.do", queue="crm")
    enqueue_many([build("shop.do") for _ in range(9)])
    (row,) = rows_of(client.get(ADDRESS, {"q": "queue:crm"}))
    assert row["id"].startswith("# Not all tasks were looked through")


def test_a_search_that_is_not_understood_is_no_file(client):
    response = client.get(ADDRESS, {"q": "stat:failed"})
    assert response.status_code == 400
    assert "Did you mean “state:”?" in response.content.decode()


def test_it_needs_its_own_right_and_only_reads():
    enqueue("shop.do")
    assert staff("view_task", "bulk_task").get(ADDRESS).status_code == 403
    assert staff("export_task", name="bob").get(ADDRESS).status_code == 403
    assert staff("view_task", "export_task", name="eve").post(ADDRESS).status_code == 405


@pytest.mark.django_db(transaction=True)
def test_an_asgi_server_streams_it_too():
    made = [task.pk for task in enqueue_many([build("shop.do") for _ in range(5)])]
    finish(Task.objects.get(pk=made[0]), State.COMPLETED)
    browser = AsyncClient()
    browser.force_login(User.objects.create_superuser("root"))

    async def read():
        response = await browser.get(ADDRESS)
        assert response.is_async
        return b"".join([chunk async for chunk in response])

    assert asyncio.run(read()).decode().count("\n") == 6
    end_other_sessions()
