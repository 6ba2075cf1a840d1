"""What a socket is sent: everything first, then what changed, once for all who see the same."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from tasks import build, enqueue, enqueue_many, page_bell
from tasks.dashboard.live import consumer, hub, socket, watch
from tasks.dashboard.page import Page, Rendering
from tasks.models import State, Task
from tests.services.waiting import wait_for
from tests.tasks.admin_rows import LIST, failed, staff
from tests.tasks.dashboard.live_tools import Open, Reader, shown_parts, socket_on, ticket_on
from tests.tasks.dashboard.test_replica import ReadsElsewhere
from tests.tasks.tools import finish

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def only_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is found by looking: what comes was rung for."""
    monkeypatch.setattr(hub, "LOOK_EVERY", 60.0)
    monkeypatch.setattr(hub, "SAFETY", 60.0)


@pytest.fixture
def renderings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pages rendered for sockets."""
    names: list[str] = []
    render = Page.render

    def counted(page: Page, *arguments: Any, **options: Any) -> Rendering:
        names.append(page.name)
        return render(page, *arguments, **options)

    monkeypatch.setattr(Page, "render", counted)
    return names


def follow(open_socket: Open, client: Client, address: str = LIST) -> Reader:
    """A page that is open, has its first message and says what it shows."""
    reader = open_socket(client, socket_on(client, address))
    first = reader.whole()
    if first.get("here") is not None:
        reader.say(shown=first["here"])
    return reader


def row(task: Task) -> str:
    return f"af-task-{task.pk}"


def brings(task: Task) -> Callable[[dict[str, Any]], bool]:
    return lambda message: row(task) in shown_parts(message)


def test_the_first_message_is_the_whole_region_with_the_databases_time(
    open_socket: Open,
) -> None:
    task = enqueue("shop.do")
    reader = open_socket(staff("view_task"))
    first = reader.whole()
    assert set(first) >= {"seq", "now", "how", "parts", "here", "note"}
    assert {"af-count", "af-rows"} <= shown_parts(first)
    assert first["here"] == [task.pk]
    assert first["now"].endswith("+00:00")


def test_later_messages_bring_the_rows_that_changed_alone(open_socket: Open) -> None:
    changed, same = enqueue("shop.do"), enqueue("shop.other")
    reader = follow(open_socket, staff("view_task"))
    Task.objects.get(pk=changed.pk).cancel()
    message = reader.hear_until(brings(changed))
    assert "cancelled" in str(message["rows"])
    assert row(same) not in shown_parts(message)
    assert "af-rows" not in shown_parts(message)
    numbers = [one["seq"] for one in reader.messages if "seq" in one]
    assert numbers == sorted(set(numbers))
    times = [one["now"] for one in reader.messages if "now" in one]
    assert times == sorted(times)


def test_of_new_tasks_a_page_hears_and_gets_the_rows_when_it_asks(open_socket: Open) -> None:
    old = enqueue("shop.do")
    reader = follow(open_socket, staff("view_task"))
    new = enqueue("shop.do")
    heard = reader.hear_until(lambda message: message.get("here"))
    assert heard["here"] == [new.pk, old.pk]
    assert "af-rows" not in shown_parts(heard)
    reader.say(want="rows")
    asked = reader.hear_until(lambda message: "af-rows" in shown_parts(message))
    assert row(new) in str(asked["parts"])


def test_a_row_that_no_longer_fits_comes_with_its_new_state(open_socket: Open) -> None:
    task = failed("shop.do")
    reader = follow(open_socket, staff("view_task"), f"{LIST}?q=state:failed")
    Task.objects.get(pk=task.pk).retry()
    message = reader.hear_until(brings(task))
    assert "af-gone" in str(message["rows"])
    assert message["here"] == []


def test_of_a_row_that_is_deleted_it_is_said_once_that_it_is_lost(open_socket: Open) -> None:
    stays, goes = enqueue("shop.do"), enqueue("shop.do")
    client = staff("view_task")
    ticket = ticket_on(client)
    reader = follow(open_socket, client)
    goes_id = goes.pk
    Task.objects.filter(pk=goes_id).delete()
    stays.cancel()
    assert reader.hear_until(lambda message: message.get("lost"))["lost"] == [goes_id]
    enqueue("shop.do")
    assert "lost" not in reader.hear_until(lambda message: message.get("here"))
    shown = {"ticket": ticket, "shown": f"{stays.pk},{goes_id}"}
    assert client.get(f"{LIST}live/poll/", shown).json()["lost"] == [goes_id]


def test_a_rolled_back_change_is_not_heard(open_socket: Open) -> None:
    reader = follow(open_socket, staff("view_task"))
    with transaction.atomic():
        enqueue("shop.do")
        transaction.set_rollback(True)
    assert not any("here" in one for one in _all(reader, 0.6))


def _all(reader: Reader, seconds: float) -> list[dict[str, Any]]:
    """What comes within so many seconds."""
    until, found = time.monotonic() + seconds, []
    while not reader.is_silent_for(max(0.0, until - time.monotonic())):
        message = reader.hear()
        assert message is not None
        found.append(message)
    return found


def test_a_page_of_one_queue_is_not_rung_by_another(
    open_socket: Open, renderings: list[str]
) -> None:
    mine = enqueue("shop.do", queue="crm")
    reader = follow(open_socket, staff("view_task"), f"{LIST}?q=queue:crm")
    _all(reader, 0.5)
    renderings.clear()
    enqueue("shop.do", queue="other")
    assert _all(reader, 0.5) == []
    assert renderings == []
    Task.objects.get(pk=mine.pk).cancel()
    assert "cancelled" in str(reader.hear_until(brings(mine)))


def test_equal_viewers_share_one_rendering(
    open_socket: Open, renderings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_AGAIN", 60.0)
    task = enqueue("shop.do")
    readers = [follow(open_socket, staff("view_task", name=f"staff{n}")) for n in range(6)]
    for reader in readers:
        _all(reader, 0.2)
    renderings.clear()
    Task.objects.get(pk=task.pk).cancel()
    for reader in readers:
        reader.hear_until(brings(task))
    assert len(renderings) <= 2  # by this process's own bell, and by the database's


def test_viewers_with_other_rights_get_their_own(open_socket: Open) -> None:
    enqueue("shop.do")
    may = follow(open_socket, staff("view_task", "cancel_task"))
    may_not = follow(open_socket, staff("view_task", name="bob"))
    assert "/cancel/" in str(may.messages[0])
    assert "/cancel/" not in str(may_not.messages[0])


def test_no_token_and_no_name_is_sent(open_socket: Open) -> None:
    failed("shop.do")
    client = staff("view_task", "retry_task", name="annabel")
    said = json.dumps(follow(open_socket, client).messages)
    assert "csrf" not in said
    assert "annabel" not in said


def test_above_a_hundred_changes_a_second_only_the_numbers_move(
    open_socket: Open, renderings: list[str]
) -> None:
    first = enqueue("shop.do")
    reader = follow(open_socket, staff("view_task"))
    _all(reader, 0.3)
    page_bell.changed("default", {"default": watch.BUSY + 1})
    Task.objects.get(pk=first.pk).cancel()
    enqueue("shop.do")
    # The numbers, and when it has become quiet also the rows.
    busy = reader.hear_until(
        lambda message: message.get("busy") and "af-count" in shown_parts(message)
    )
    assert row(first) not in shown_parts(busy)
    assert "here" not in busy
    calm = reader.hear_until(brings(first))
    assert not calm["busy"]


def test_a_page_is_updated_a_few_times_a_second(open_socket: Open, renderings: list[str]) -> None:
    reader = follow(open_socket, staff("view_task"))
    _all(reader, 0.3)
    renderings.clear()
    began = time.monotonic()

    def has_followed() -> bool:
        page_bell.changed("default", {"default": 1})
        return len(renderings) > 8

    wait_for(has_followed, timeout=20, what="updates while much changes")
    assert len(renderings) <= watch.BURST + (time.monotonic() - began) * watch.PACE + 1


def test_a_hidden_page_gets_one_update_in_five_seconds(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert socket.HIDDEN_PAUSE == 5.0
    monkeypatch.setattr(socket, "HIDDEN_PAUSE", 1.5)
    began = time.monotonic()
    reader = follow(open_socket, staff("view_task"))
    reader.say(hidden=True)
    tasks = [enqueue("shop.do") for _ in range(3)]
    message = reader.hear_until(lambda message: message.get("here"))
    assert len(message["here"]) == len(tasks)
    assert time.monotonic() - began >= 1.5


def test_the_server_is_never_silent_for_long(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "BEAT", 0.2)
    reader = follow(open_socket, staff("view_task"))
    assert None not in [reader.hear(10) for _ in range(4)]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_page_read_from_a_replica_hears_what_is_changed_on_the_primary(
    open_socket: Open, settings: Any
) -> None:
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]
    reader = follow(open_socket, staff("view_task"))
    new = enqueue("shop.do")
    _all(reader, 0.5)
    Task.objects.using("other").bulk_create(Task.objects.using("default").all())
    page_bell.changed("default", {"default": 1})
    assert reader.hear_until(lambda message: message.get("here"))["here"] == [new.pk]


def test_a_page_that_cannot_be_rendered_says_so_and_recovers(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "AFTER_TROUBLE", 0.2)
    reader = follow(open_socket, staff("view_task"))

    def broken(*arguments: Any, **options: Any) -> Rendering:
        raise OSError("no template")

    with monkeypatch.context() as patch:
        patch.setattr(Page, "render", broken)
        page_bell.changed("default", {"default": 1})
        reader.hear_until(lambda message: message.get("trouble"))
    assert "no template" in caplog.text
    new = enqueue("shop.do")
    assert reader.hear_until(lambda message: message.get("here"))["here"] == [new.pk]


def test_a_page_that_waits_long_for_its_database_says_so(
    open_socket: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = follow(open_socket, staff("view_task"))
    answers = threading.Event()
    render = Page.render

    def hang(self: Page, *arguments: Any, **options: Any) -> Any:
        assert answers.wait(20)
        return render(self, *arguments, **options)

    monkeypatch.setattr(watch, "LATE", 0.2)
    monkeypatch.setattr(Page, "render", hang)
    new = enqueue("shop.do")
    page_bell.changed("default", {"default": 1})
    assert "here" not in reader.hear_until(lambda message: message.get("trouble"))
    answers.set()
    message = reader.hear_until(lambda message: message.get("here"))
    assert message["here"] == [new.pk]
    assert not message["trouble"]


def test_a_page_of_a_task_follows_it_to_its_end(open_socket: Open) -> None:
    task = enqueue("shop.do")
    reader = follow(open_socket, staff("view_task"), f"{LIST}{task.pk}/change/")
    finish(task, State.COMPLETED)
    page_bell.changed("default", {"default": 1})
    reader.hear_until(lambda message: "completed" in str(message.get("parts")))


def test_by_http_the_whole_page_comes_with_a_new_ticket() -> None:
    stays, goes = enqueue("shop.do"), failed("shop.do")
    client = staff("view_task", "retry_task")
    ticket = ticket_on(client, f"{LIST}?q=state:failed")
    goes.retry()
    shown = f"{stays.pk},{goes.pk},x,-1"
    answer = client.get(f"{LIST}live/poll/", {"ticket": ticket, "shown": shown}).json()
    assert answer["whole"]
    assert answer["here"] == []
    assert {row(goes), row(stays), "af-rows", "af-count"} <= shown_parts(answer)
    assert client.get(f"{LIST}live/poll/", {"ticket": answer["ticket"]}).status_code == 200
    assert "csrf" not in json.dumps(answer["parts"])


def test_what_a_page_says_is_not_believed(open_socket: Open) -> None:
    reader = follow(open_socket, staff("view_task"))
    for shown in ("x", None, [None, "1", -1, 2**70, True], list(range(10_000))):
        reader.say(shown=shown)
    reader.say(want="everything", hidden="perhaps", colour="red")
    reader.loop.run(reader.socket.send_to(text_data="[]"))
    reader.loop.run(reader.socket.send_to(text_data="{"))
    reader.loop.run(reader.socket.send_to(bytes_data=b"\x00"))
    reader.say(hidden=False)
    new = enqueue("shop.do")
    assert reader.hear_until(lambda message: message.get("here"))["here"] == [new.pk]


def test_a_row_that_only_moved_to_the_next_page_is_not_called_gone(open_socket: Open) -> None:
    tasks = enqueue_many([build("shop.do") for _ in range(50)])
    reader = follow(open_socket, staff("view_task"))
    oldest = tasks[0]
    enqueue("shop.do")
    heard = reader.hear_until(lambda message: message.get("here"))
    assert oldest.pk not in heard["here"]
    oldest.cancel()
    rows = reader.hear_until(brings(oldest))["rows"]
    assert "cancelled" in str(rows)
    assert "af-gone" not in str(rows)
