"""Pages change before the reader's eyes, say how, and leave everything of the reader's in place."""

import json
import signal
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.utils import timezone

from orders.models import Order
from tasks import enqueue, incidents
from tasks.models import State, Task
from tasks.queues import pause
from tests.acceptance.fleet import journal_of
from tests.browser.live_site import (
    WATCH_ROWS,
    Site,
    is_live,
    row,
    says,
    seen,
    state_of,
    until,
)
from tests.services.host import Host
from tests.services.waiting import wait_for
from tests.tasks.failing import fail, incident
from tests.tasks.tools import finish

FIFTY_ORDERS = """
from orders.models import Order
for n in range(50):
    Order.objects.create(customer=f"Ann {n}", email="ann@example.com")
"""
WAYS = {
    "redis": "Live through Redis",
    "postgresql": "Live through PostgreSQL",
    "sqlite": "Live: looks each second",
    "wsgi": "Looks every 2 seconds. To be live at once the site must be served by ASGI",
}
HISTORY = ["waiting", "due", "later", "running", "completed"]


@pytest.fixture(params=WAYS)
def site_by_each_way(request: pytest.FixtureRequest) -> Site:
    way = request.param
    kind = "sqlite_host" if way in ("sqlite", "wsgi") else "postgres_host"
    host: Host = request.getfixturevalue(kind)
    if way == "redis":
        host.env["REDIS_URL"] = request.getfixturevalue("redis_url")
    if way == "wsgi":
        host.env["DJANGO_SETTINGS_MODULE"] = "tests.hosts.wsgi"
    site = Site(host, asgi=way != "wsgi")
    site.says = WAYS[way]
    return site


@pytest.fixture
def site(sqlite_host: Host) -> Site:
    return Site(sqlite_host)


def in_order(states: list[str], history: list[str] = HISTORY) -> bool:
    """Whether every state was seen once at most, none before one that comes earlier."""
    places = [history.index(state) for state in states]
    return places == sorted(set(places))


@pytest.mark.timeout(300)
def test_fifty_orders_of_another_process_are_followed_on_every_page(
    site_by_each_way: Site, page: Any
) -> None:
    site = site_by_each_way
    page.add_init_script(WATCH_ROWS)
    site.sign_in(page)
    first = Order.objects.create(customer="Bo", email="bo@example.com")
    overview, record = page.context.new_page(), page.context.new_page()
    site.open(page)
    site.open(overview, "overview/")
    site.open(record, f"record/orders/order/{first.pk}/")
    for one in (page, overview, record):
        until(one, lambda one=one: says(one).startswith(site.says), f"the words {site.says}")
        one.evaluate("window.same = true")
    figures = overview.locator("#af-figures").inner_text()

    site.host.shell(FIFTY_ORDERS)
    newest = Task.objects.order_by("-pk").first()
    until(page, lambda: page.locator(row(newest)).count(), "the newest task in the list")
    site.worker()

    def done() -> bool:
        states = Task.objects.exclude(state=State.SCHEDULED, due=False).values_list("state")
        return set(states) == {(State.COMPLETED,)}

    wait_for(done, timeout=60, every=0.3, what="the worker")
    shown = list(Task.objects.order_by("-pk")[:50])
    until(page, lambda: all(state_of(page, task) == task.shown_state for task in shown), "the end")
    assert all(in_order(seen(page, task)) for task in shown)
    assert any(len(seen(page, task)) > 1 for task in shown)
    until(overview, lambda: overview.locator("#af-figures").inner_text() != figures, "figures")
    cards = record.locator("#af-record-cards")
    until(record, lambda: "completed" in cards.inner_text(), "the record's tasks")
    assert all(one.evaluate("window.same") for one in (page, overview, record)), "none reloaded"


def test_retry_shows_how_the_task_runs_and_completes(site_by_each_way: Site, page: Any) -> None:
    site = site_by_each_way
    page.add_init_script(WATCH_ROWS)
    site.sign_in(page)
    journal = journal_of(site.host)
    task = enqueue("work.gate")
    finish(task, State.FAILED, reason="it broke")
    site.worker()
    site.open(page)
    assert state_of(page, task) == "failed"
    page.evaluate("window.name = 'clicked'")
    with page.expect_navigation():
        page.locator(f"{row(task)} button[formaction$='/retry/']").click()
    until(page, lambda: state_of(page, task) == "running", "its run", timeout=40)
    journal.open_gate(task)
    until(page, lambda: state_of(page, task) == "completed", "the end")
    assert in_order(seen(page, task), ["due", "running", "completed"])
    task.refresh_from_db()
    assert task.state == State.COMPLETED


def test_a_stopped_server_is_noticed_and_back_at_once(site: Site, page: Any) -> None:
    asked: list[str] = []
    page.on("websocket", lambda socket: asked.append(socket.url))
    site.sign_in(page)
    task = enqueue("work.noop")
    site.open(page)
    site.server.send_signal(signal.SIGSTOP)
    try:
        began = page.evaluate("performance.now()")
        # By the page's own clock, in its own frames.
        noticed = page.wait_for_function(
            "/^Not live since/.test(document.querySelector('#af-live-text').innerText)"
            " && performance.now()",
            timeout=40_000,
        )
        assert noticed.json_value() - began < 15_000
        assert page.locator("#af-root.af-stale").count()
        until(page, lambda: len(asked) == 2, "another attempt")
        task.cancel(reason="not wanted")
    finally:
        site.server.send_signal(signal.SIGCONT)
    began = time.monotonic()
    until(page, lambda: state_of(page, task) == "cancelled" and is_live(page), "what is true")
    assert time.monotonic() - began < 2.0
    assert len(asked) == 2, "it was the attempt that had waited"
    assert not page.locator("#af-root.af-stale").count()


def test_a_server_that_is_restarted_is_found_again(site: Site, page: Any) -> None:
    site.sign_in(page)
    task = enqueue("work.noop")
    site.open(page)
    page.evaluate("window.same = true")
    site.stop()
    until(page, lambda: not is_live(page), "the loss")
    task.cancel(reason="not wanted")
    site.start()

    def found() -> bool:
        return state_of(page, task) == "cancelled" and is_live(page)

    until(page, found, "the new server", timeout=40)  # between two attempts lie up to 10 s
    assert page.evaluate("window.same")


def test_a_close_with_1000_is_no_end(site: Site, page: Any) -> None:
    sockets: list[Any] = []

    def between(socket: Any) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    page.route_web_socket("**/tasks/live/**", between)
    site.sign_in(page)
    task = enqueue("work.noop")
    site.open(page)
    sockets[0].close(code=1000)
    until(page, lambda: len(sockets) == 2, "another socket")
    task.cancel(reason="not wanted")
    until(page, lambda: state_of(page, task) == "cancelled", "the change")


def test_what_a_proxy_answers_is_no_end_and_it_is_not_asked_without_pause(
    site: Site, page: Any
) -> None:
    """While the site is deployed anew, say."""
    sockets: list[Any] = []
    asked: list[str] = []

    def between(socket: Any) -> None:
        socket.connect_to_server()
        sockets.append(socket)

    def not_here(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=404, body="404 page not found")

    page.route_web_socket("**/tasks/live/**", between)
    page.route("**/live/ticket/**", not_here)
    site.sign_in(page)
    site.open(page)
    sockets[0].close(code=4408)  # its ticket is too old
    until(page, lambda: asked, "the wish for a new ticket")
    page.wait_for_timeout(4000)
    assert len(asked) <= 4
    page.unroute("**/live/ticket/**")
    until(page, lambda: len(sockets) == 2 and is_live(page), "another socket", timeout=30)


def test_a_database_whose_clock_was_set_back_is_followed_on(site: Site, page: Any) -> None:
    behind: list[timedelta] = []

    def as_told(text: str) -> str:
        message = json.loads(text)
        if "now" in message and behind:
            now = timezone.datetime.fromisoformat(message["now"]) - behind[0]
            message["now"] = now.isoformat()
        return json.dumps(message)

    def between(socket: Any) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda text: socket.send(as_told(text)))

    page.route_web_socket("**/tasks/live/**", between)
    site.sign_in(page)
    task = enqueue("work.noop")
    site.open(page)
    behind.append(timedelta(hours=1))
    task.cancel(reason="not wanted")
    until(page, lambda: state_of(page, task) == "cancelled", "the change")


@pytest.mark.parametrize("code", [4401, 4403])
def test_who_is_turned_away_is_told_and_left_in_peace(site: Site, page: Any, code: int) -> None:
    asked: list[str] = []
    page.on("websocket", lambda socket: asked.append(socket.url))
    user = site.sign_in(page)
    site.open(page)
    if code == 4401:
        Session.objects.all().delete()
    else:
        User.objects.update(is_superuser=False)
    words = "You are signed out." if code == 4401 else "You may not see this page any more."
    until(page, lambda: says(page) == words, words, timeout=10)
    known = len(asked)
    page.wait_for_timeout(3000)
    assert len(asked) == known
    link = page.get_by_role("link", name="Open it again")
    with page.expect_navigation():
        link.click()
    assert ("/login/" in page.url) == (code == 4401)
    assert user.pk


def test_whoever_loses_only_the_key_of_the_session_stays(site: Site, page: Any) -> None:
    """As after a change of the own password in another tab."""
    asked: list[str] = []
    page.on("websocket", lambda socket: asked.append(socket.url))
    site.sign_in(page)
    task = enqueue("work.noop")
    site.open(page)
    old = set(Session.objects.values_list("pk", flat=True))
    site.sign_in(page)
    known = len(asked)
    Session.objects.filter(pk__in=old).delete()
    until(page, lambda: len(asked) > known, "a socket with the new key")
    task.cancel(reason="not wanted")
    until(page, lambda: state_of(page, task) == "cancelled" and is_live(page), "the change")


def test_a_readers_place_is_kept(site: Site, page: Any) -> None:
    site.sign_in(page)
    tasks = [enqueue("work.noop") for _ in range(30)]
    site.open(page)
    ticked, opened, chosen, focused = tasks[20], tasks[15], tasks[17], tasks[18]
    page.locator(f"#af-tick-{ticked.pk}").check()
    page.locator(f"#af-fold-more-{opened.pk} > summary").click()
    reason = page.locator(f"#af-fold-more-{opened.pk} input").first
    page.locator(f"#af-fold-more-{opened.pk} details > summary").first.click()
    reason.fill("because")
    page.locator(f"{row(focused)} summary").first.focus()
    page.evaluate(
        """id => {
            const text = document.querySelector(`${id} .af-small`).firstChild;
            getSelection().setBaseAndExtent(text, 0, text, 4);
        }""",
        row(chosen),
    )
    page.mouse.move(5, 5)
    page.evaluate("window.scrollTo(0, 200)")
    before = page.evaluate(PLACE)
    assert before["selected"]
    assert before["open"]
    assert before["typed"] == ["because"]
    order = page.evaluate(ROWS)

    for _ in range(3):
        enqueue("work.noop")
    for task in tasks[5:25]:
        if task not in (opened, focused):
            task.cancel(reason="not wanted")
    Task.objects.filter(pk__in=(opened.pk, focused.pk)).update(queue="another")
    Task.objects.filter(pk=tasks[2].pk).delete()
    changed = (opened, "another"), (focused, "another"), (ticked, "cancelled")
    for task, word in changed:
        shown = page.locator(row(task))
        until(page, lambda shown=shown, word=word: word in shown.inner_text(), f"{word}")
    until(page, lambda: page.locator(f"{row(tasks[2])}.af-gone").count(), "the deleted one dimmed")
    news = page.locator("#af-news")
    until(page, lambda: news.is_visible() and news.inner_text() == "3 new, 1 gone – show", "news")
    page.wait_for_timeout(1500)
    after = page.evaluate(PLACE)
    assert after == before
    assert page.evaluate(ROWS) == order

    news.click()
    until(page, lambda: page.evaluate(ROWS) != order, "the new rows")
    assert len(page.evaluate(ROWS)) == 32
    assert page.evaluate(PLACE)["ticked"] == [f"af-tick-{ticked.pk}"]
    assert news.is_hidden()


PLACE = """() => ({
    ticked: [...document.querySelectorAll("input[name=ticked]:checked")].map((one) => one.id),
    open: [...document.querySelectorAll("#af-rows details[open]")].map((one) => one.id),
    typed: [...document.querySelectorAll("input[name^=reason]")]
        .map((one) => one.value)
        .filter((text) => text),
    focused: document.activeElement.closest(".af-row")?.id,
    selected: String(getSelection()),
    scrolled: window.scrollY,
})"""
ROWS = '() => [...document.querySelectorAll("#af-rows > [id]")].map((row) => row.id)'


def test_ticks_are_not_given_to_other_rows_when_the_browser_goes_back(
    site: Site, page: Any
) -> None:
    site.sign_in(page)
    tasks = [enqueue("work.noop") for _ in range(5)]
    site.open(page)
    page.locator(f"#af-tick-{tasks[2].pk}").check()
    page.locator(f"{row(tasks[4])} th a").click()
    until(page, lambda: page.locator("#af-task-head").count(), "the page of a task")
    enqueue("work.noop")
    page.go_back()
    site.wait_until_live(page)
    until(page, lambda: len(page.evaluate(ROWS)) == 6, "the list as it is now")
    assert set(page.evaluate(PLACE)["ticked"]) <= {f"af-tick-{tasks[2].pk}"}


def test_new_rows_flow_in_only_while_nobody_reads(site: Site, page: Any) -> None:
    site.sign_in(page)
    old = enqueue("work.noop")
    site.open(page)
    page.mouse.move(5, 5)
    second = enqueue("work.noop")
    until(page, lambda: page.locator(row(second)).count(), "the second row")
    page.locator(row(old)).hover()
    third = enqueue("work.noop")
    news = page.locator("#af-news")
    until(page, lambda: news.is_visible(), "the news")
    assert news.inner_text() == "1 new – show"
    assert not page.locator(row(third)).count()
    page.mouse.move(5, 5)
    until(page, lambda: page.locator(row(third)).count(), "the third row")
    assert news.is_hidden()


def test_no_row_of_any_page_moves_under_the_pointer(site: Site, page: Any) -> None:
    site.sign_in(page)
    fail("work.noop", "old", message="The oldest.")
    fail("work.noop", "new", message="The newest.")
    old, new = (f"af-incident-{incident(name).pk}" for name in ("old", "new"))
    site.open(page, "incidents/")

    def shown() -> list[str]:
        return list(page.eval_on_selector_all(".af-incident", "rows => rows.map(row => row.id)"))

    news = page.locator("#af-news")
    assert shown() == [new, old]
    page.locator(f"#{new}").hover()
    fail("work.noop", "old", message="The oldest, once more.")
    text = page.locator(f"#{old} .af-clamp")
    until(page, lambda: text.inner_text() == "The oldest, once more.", "what it says now")
    assert shown() == [new, old]
    assert news.is_hidden()
    fail("work.noop", "third")
    incidents.mute(incident("new"), until=timezone.now() + timedelta(hours=1), by="bob")
    words = "1 new, 1 gone – show"  # a look between the two tells of the first alone
    until(page, lambda: news.is_visible() and news.inner_text() == words, "the news")
    assert shown() == [new, old]
    assert "af-gone" in (page.locator(f"#{new}").get_attribute("class") or "")
    page.mouse.move(5, 5)
    until(page, lambda: shown() == [f"af-incident-{incident('third').pk}", old], "the rows")
    assert news.is_hidden()


def test_rows_that_wait_are_shown_when_asked_for(site: Site, page: Any) -> None:
    site.sign_in(page)
    fail("work.noop", "old")
    old = incident("old")
    site.open(page, "incidents/")
    link = page.locator(f"#af-incident-{old.pk} a")
    link.focus()
    fail("work.noop", "new")
    page.locator("#af-news").click()
    rows = page.locator(".af-incident")
    until(page, lambda: rows.count() == 2, "both rows")
    assert rows.first.get_attribute("id") == f"af-incident-{incident('new').pk}"


def test_a_card_that_is_open_stays_where_it_is(site: Site, page: Any) -> None:
    site.sign_in(page)
    order = Order.objects.create(customer="Ann", email="ann@example.com")
    task = order.tasks.enqueue("work.noop", delay=3600)
    site.open(page, f"record/orders/order/{order.pk}/")
    fold = page.locator(f"#af-fold-more-{task.pk}")
    fold.locator("> summary").click()
    # As under a finger: nothing points at it or has the focus.
    page.mouse.move(5, 5)
    page.evaluate("document.activeElement.blur()")
    cards = page.locator(".af-card[id^=af-task-]")
    before = [card.get_attribute("id") for card in cards.all()]
    new = order.tasks.enqueue("work.noop")
    news = page.locator("#af-news")
    until(page, lambda: news.is_visible() and news.inner_text() == "1 new – show", "the news")
    assert [card.get_attribute("id") for card in cards.all()] == before
    fold.locator("> summary").click()
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(5, 5)
    until(page, lambda: page.locator(row(new)).count(), "the new card")
    assert news.is_hidden()


def test_a_button_under_the_finger_never_becomes_another(site: Site, page: Any) -> None:
    posts: list[str] = []
    page.on("request", lambda request: request.method == "POST" and posts.append(request.url))
    site.sign_in(page)

    def press_while(change: Callable[[], object], *, at: str, then: str) -> None:
        """Put the finger down at a button, and lift it when the change has come."""
        page.locator(at).hover()
        page.mouse.down()
        change()
        until(page, lambda: page.locator(then).count(), then)
        page.mouse.up()
        page.wait_for_timeout(500)
        assert posts == []

    task = fail("work.noop")
    retrying = {"state": State.SCHEDULED, "due": False, "finished_at": None}
    site.open(page)
    press_while(
        lambda: Task.objects.filter(pk=task.pk).update(
            **retrying, run_at=timezone.now() + timedelta(hours=1)
        ),
        at=f"{row(task)} button[formaction$='/retry/']",
        then=f"{row(task)} button[formaction$='/run_now/']",
    )
    site.open(page, f"incidents/{incident().pk}/")
    press_while(
        lambda: incidents.take(incident(), by="bob"),
        at="button[formaction$='/take/']",
        then="button[formaction$='/release/']",
    )
    pause("default", "crm", reason="The CRM is down.")
    site.open(page, "overview/")
    page.locator("#af-lanes button[formaction$='/crm/resume/']").hover()
    page.mouse.down()
    # Its row would be the first.
    pause("default", "billing", reason="So is billing.")
    until(page, page.locator("#af-news").is_visible, "the news")
    with page.expect_navigation(wait_until="load"):
        page.mouse.up()
    assert [address.rpartition("/queue/")[2] for address in posts] == ["crm/resume/"]


def test_a_frozen_page_stands_still_and_catches_up(site: Site, page: Any) -> None:
    site.sign_in(page)
    task = enqueue("work.noop")
    site.open(page)
    page.keyboard.press("f")
    assert says(page).startswith("Frozen at")
    task.cancel(reason="not wanted")
    page.wait_for_timeout(2500)
    assert state_of(page, task) == "due"
    page.get_by_role("button", name="Go on").click()
    until(page, lambda: state_of(page, task) == "cancelled", "the change")


OWN_HTMX = """
window.htmx = "the host's own";
const its = Object.assign(document.createElement("meta"), {
  name: "htmx-config", content: '{"extensions": "theirs"}',
});
new MutationObserver((_, observer) => {
  document.head?.append(its);
  if (its.isConnected) observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""


def test_a_hosts_own_htmx_and_its_page_are_left_alone(site: Site, page: Any) -> None:
    site.sign_in(page)
    page.add_init_script(OWN_HTMX)
    task = enqueue("work.noop")
    site.open(page)
    page.locator(f"#af-tick-{task.pk}").check()
    task.cancel(reason="not wanted")
    until(page, lambda: state_of(page, task) == "cancelled", "the change")
    assert page.locator(f"#af-tick-{task.pk}").is_checked(), "it was morphed, not replaced"
    assert page.evaluate("window.htmx") == "the host's own"
    assert page.evaluate("document.adoptedStyleSheets.length") == 0
    assert page.evaluate("typeof window.morph") == "undefined"
    # Back and forward are the browser's, not htmx's.
    site.open(page, "overview/")
    page.go_back()
    until(page, lambda: is_live(page), "a live page")
    assert page.url.endswith("/admin/tasks/task/")


#: A host's own htmx 2, which turns every link and form of the body into requests of its own.
BOOSTED_BY_HTMX_2 = """
document.addEventListener("readystatechange", () => document.body.setAttribute("hx-boost", "true"));
"""


def test_a_hosts_htmx_that_boosts_all_its_pages_boosts_none_of_ours(site: Site, page: Any) -> None:
    import unfold

    [htmx] = Path(unfold.__file__).parent.glob("static/unfold/js/htmx/htmx.js")
    page.add_init_script(BOOSTED_BY_HTMX_2 + htmx.read_text() + "; window.htmx = htmx;")
    site.sign_in(page)
    task = enqueue("work.noop")
    finish(task, State.FAILED, reason="it broke")
    sockets: list[Any] = []
    page.on("websocket", lambda socket: sockets.append(socket))
    posted: list[tuple[str, str]] = []
    page.on(
        "request", lambda one: one.method == "POST" and posted.append((one.url, one.resource_type))
    )
    site.open(page)
    with page.expect_navigation():
        page.locator(f"{row(task)} button[formaction$='/retry/']").click()
    site.wait_until_live(page)
    assert posted == [(f"{site.web}/admin/tasks/task/{task.pk}/retry/", "document")]
    assert state_of(page, task) == "due"
    for link in (".af-tabs a", ".breadcrumbs a[href$='/tasks/task/']"):
        with page.expect_navigation():
            page.locator(link).first.click()
        site.wait_until_live(page)
    # The host's own links go on as it wants; nobody listens for a page that is no more.
    page.evaluate("window.same = true")
    page.locator("#site-name a, #branding a").first.click()
    until(page, lambda: not page.locator("#af-root").count(), "the host's page")
    assert page.evaluate("window.same")
    until(page, lambda: sockets[-1].is_closed(), "the end of the socket")
    page.keyboard.press("?")


def test_the_tab_says_how_many_failed(site: Site, page: Any) -> None:
    site.sign_in(page)
    failed = enqueue("work.noop")
    finish(failed, State.FAILED, reason="it broke")
    site.open(page, "?q=state:failed")
    assert page.title().startswith("(1 failed) ")
    failed.retry()
    until(page, lambda: page.title().startswith("Tasks"), "the title without a note")


def test_withdrawn_permissions_take_the_buttons_away(site: Site, page: Any) -> None:
    user = site.sign_in(page)
    user.is_superuser = False
    user.save()
    user.user_permissions.set(Permission.objects.filter(codename__in=("view_task", "cancel_task")))
    task = enqueue("work.noop")
    site.open(page)
    cancel: Callable[[], int] = page.locator(f"{row(task)} button[formaction$='/cancel/']").count
    assert cancel() == 1
    user.user_permissions.remove(Permission.objects.get(codename="cancel_task"))
    until(page, lambda: cancel() == 0, "the button is gone", timeout=10)
