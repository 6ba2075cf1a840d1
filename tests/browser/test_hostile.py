"""Tasks that carry markup, scripts, secrets and five megabytes: shown as text, hidden, cut."""

from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType

from orders.models import Order
from tasks.models import (
    BulkAction,
    Failure,
    Incident,
    LogLine,
    Queue,
    Task,
    TaskEvent,
    Worker,
)
from tests.browser.live_site import is_live, until
from tests.browser.test_hosts import served, violations
from tests.browser.walk import (
    addresses,
    hire,
    open_folds,
    sign_in,
    wait_until_settled,
    width_beyond,
)
from tests.services.host import Host

LIST = "/admin/tasks/task/"
#: Ends whatever it stands in, then tries to run.
MARKUP = (
    "\"'><script>window.hacked=1</script><img src=x onerror='window.hacked=2'>"
    "<svg/onload=window.hacked=3></textarea></title></script><style>body{display:none}</style>"
    "<a href='javascript:window.hacked=4' hx-get='/evil' hx-trigger='load'>{{ 7|add:7 }}"
    "${window.hacked=5} \u202egnp.exe \u0000".replace("\u0000", "")
)
SECRET = "s3cr3t-kept-by-nobody"
SECRETS = {
    "password": SECRET,
    "headers": {"Authorization": f"Bearer {SECRET}"},
    "note": f"postgres://shop:{SECRET}@db/shop",
    "card_number": SECRET,
}
LONG = "x" * 40_000


@pytest.fixture
def web(sqlite_host: Host) -> str:
    hire()
    return served(sqlite_host, "csp")


def hostile_task() -> Task:
    """A failed task all of whose texts are hostile."""
    order = Order.objects.create(customer=MARKUP[:80], email="ann@example.com", number="<b>1</b>")
    Queue.objects.create(
        name=MARKUP[:60], paused_by=MARKUP[:60], paused_reason=MARKUP, paused_at="2026-11-22T01:00Z"
    )
    task = Task(
        type="work",
        action="<img/src/onerror=alert(1)>",
        queue=MARKUP[:60],
        state="failed",
        attempts=1,
        max_attempts=5,
        reason=f"{MARKUP} password={SECRET} {LONG}",
        data={MARKUP: [MARKUP, {"deep": MARKUP}], **SECRETS, "long": LONG},
        result={"url": "javascript:alert(1)", "html": MARKUP, **SECRETS},
        context={"rule": MARKUP, "origin": MARKUP},
        finished_at="2026-11-22T01:00Z",
        fingerprint="f" * 32,
        run_at="2026-11-22T01:00Z",
    )
    task.content_type, task.object_id = ContentType.objects.get_for_model(Order), str(order.pk)
    task.save()
    Failure.objects.create(
        task=task,
        attempt=1,
        exception="shop." + MARKUP[:150],
        message=f"{MARKUP} Authorization: Bearer {SECRET}",
        traceback=f'Traceback:\n  File "{MARKUP}"\n    password = "{SECRET}"\n{LONG}',
        fingerprint="f" * 32,
    )
    LogLine.objects.create(
        task=task, attempt=1, at="2026-11-22T01:00Z", level=30, text=f"{MARKUP} token={SECRET}"
    )
    TaskEvent.objects.create(
        task=task,
        who=MARKUP[:150],
        action="change_data",
        reason=f"{MARKUP} api_key={SECRET}",
        difference=[{"path": MARKUP, "before": MARKUP, "after": "new"}],
        before={"old": SECRET},
    )
    return task


def about(task: Task) -> dict[str, str]:
    """Every page, about the hostile task."""
    incident = Incident.objects.create(
        fingerprint=task.fingerprint,
        type=task.type,
        action=task.action,
        exception="shop." + MARKUP[:150],
        message=f"{MARKUP} secret={SECRET}",
        failures=1,
        newest_task_id=task.pk,
        first_release=MARKUP[:90],
        note=MARKUP,
        link="javascript:window.hacked=6",
        taken_by=MARKUP[:90],
        status="taken",
    )
    bulk = BulkAction.objects.create(
        action="retry", query=f'error:"{MARKUP}"', reason=MARKUP, who=MARKUP[:90], expected=1
    )
    TaskEvent.objects.create(
        incident=incident, who=MARKUP[:90], action="incident_note", reason=MARKUP
    )
    Worker.objects.create(
        id=1,
        host=MARKUP[:90],
        pid=1,
        threads=1,
        coroutines=1,
        queues=[MARKUP[:60]],
        started_at="2026-11-22T01:00Z",
        heartbeat_at="2026-11-22T01:00Z",
    )
    more = {
        "grammar": f"{LIST}?q=%22%3E%3Cscript%3Ewindow.hacked=7%3C/script%3E+x:%3Cb%3E",
        "search for markup": f"{LIST}search/?q=%22%3E%3Cscript%3Ewindow.hacked=8%3C/script%3E",
        "record": f"{LIST}record/orders/order/{task.object_id}/",
    }
    return addresses(task, incident, bulk) | more


def test_nothing_a_task_carries_runs_leaks_or_breaks_a_page(page: Any, web: str) -> None:
    walk = about(hostile_task())
    refused = violations(page)
    page.on("dialog", lambda dialog: refused.append(dialog.message))
    sign_in(page, web)
    assert refused == []
    for name, address in walk.items():
        answer = page.goto(web + address)
        assert answer.status == 200, name
        wait_until_settled(page)
        assert page.evaluate("window.hacked") is None, name
        assert refused == [], name
        assert SECRET not in page.content(), name
        assert page.locator("#af-root h1").is_visible(), name
        assert page.locator("#af-root :is([onerror], [onload], [hx-get], iframe)").count() == 0
        assert page.locator("#af-root a[href^='javascript']").count() == 0, name
        assert width_beyond(page) <= 0, name
        open_folds(page)
        assert width_beyond(page) <= 0, name
    # What is sent later is held to the same.
    page.goto(web + LIST)
    task = Task.objects.get(action__startswith="<img")
    until(page, lambda: is_live(page), "a live page")
    Task.objects.filter(pk=task.pk).update(reason=f"It came later <b onclick=1>{MARKUP}")
    row = page.locator(f"#af-task-{task.pk}")
    until(page, lambda: "It came later <b onclick=1>" in row.inner_text(), "the new reason")
    assert page.evaluate("window.hacked") is None
    assert page.locator("#af-root [onclick]").count() == 0
    assert refused == []


def test_five_megabytes_of_data_are_cut_and_the_page_stays_quick(page: Any, web: str) -> None:
    task = hostile_task()
    Task.objects.filter(pk=task.pk).update(
        data={f"key{number}": "y" * 1000 for number in range(5000)}
    )
    Failure.objects.filter(task=task).update(traceback="z\n" * 500_000)
    sign_in(page, web)
    for name, address in about(task).items():
        answer = page.goto(web + address)
        assert answer.status == 200, name
        assert len(answer.body()) < 1_500_000, name
        assert width_beyond(page) <= 0, name
    page.goto(f"{web}{LIST}{task.pk}/change/")
    assert "more characters" in page.content()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hostile_texts_fit_a_phone(chromium: Any, web: str, scheme: str) -> None:
    walk = about(hostile_task())
    viewport = {"width": 390, "height": 844}
    page = chromium.new_context(viewport=viewport, is_mobile=True, color_scheme=scheme).new_page()
    sign_in(page, web)
    for name, address in walk.items():
        page.goto(web + address)
        assert width_beyond(page) <= 0, name
    page.context.close()
