"""Why a task does not run: one true sentence and what helps."""

from datetime import timedelta

import pytest
from django.utils import timezone, translation

from tasks import enqueue, handler
from tasks.models import Queue, Task, Worker
from tasks.queues import pause
from tasks.serving import serving
from tasks.why import TIME, why, whys
from tests.tasks.admin_rows import in_state
from tests.tasks.tools import WORKER, finish, start

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def known() -> None:
    handler("shop.do")(print)


def worker(*queues: str, pk: int = WORKER, **more: object) -> Worker:
    columns = {"threads": 1, "coroutines": 1, **more}
    return Worker.objects.create(pk=pk, host="web-3", pid=7, queues=list(queues), **columns)


def test_a_due_task_waits_for_the_next_free_worker() -> None:
    worker()
    reason = why(enqueue("shop.do"))
    assert (reason.kind, reason.remedies) == ("due", ())
    assert reason.text == "Its time has come: the next free worker takes it."


def test_a_paused_queue_comes_first_and_can_be_resumed() -> None:
    pause("default", "crm", by="eve", reason="CRM is down, token=abc123")
    reason = why(enqueue("unknown.name", queue="crm"))
    assert reason.kind == "paused"
    assert reason.text.startswith("The queue crm was paused by eve at ")
    assert "“CRM is down, token=[redacted]”" in reason.text
    assert reason.remedy is not None
    assert (reason.remedy.kind, reason.remedy.action, reason.remedy.queue) == (
        "action",
        "resume",
        "crm",
    )


def test_a_name_that_nobody_handles_is_named() -> None:
    worker()
    reason = why(enqueue("unknown.name"))
    assert reason.kind == "unknown_name"
    assert "unknown.name" in reason.text
    assert reason.remedy is not None
    assert reason.remedy.kind == "advice"


def test_without_a_live_worker_for_the_queue_the_command_that_starts_one_is_given() -> None:
    worker("mail")
    reason = why(enqueue("shop.do", queue="my queue"))
    assert reason.kind == "no_worker"
    assert reason.text == "No live worker serves the queue my queue."
    assert reason.remedy is not None
    assert reason.remedy.command == "python manage.py runworker --queues 'my queue'"


@pytest.mark.django_db(databases=["default", "other"])
def test_the_command_names_a_database_that_is_not_the_default_one() -> None:
    reason = why(enqueue("shop.do", using="other"))
    assert reason.remedy is not None
    assert reason.remedy.command == "python manage.py runworker --queues default --database other"


class TestServing:
    def test_a_worker_without_names_serves_every_queue(self) -> None:
        worker()
        assert serving("default").serves("anything")

    def test_a_named_worker_serves_its_queues_and_aftersaves_own(self) -> None:
        worker("mail", "crm")
        found = serving("default")
        assert [found.serves(q) for q in ("mail", "crm", "other", "aftersave")] == [
            True,
            True,
            False,
            True,
        ]

    def test_nobody_serves_aftersaves_own_queue_where_nobody_is(self) -> None:
        assert not serving("default").serves("aftersave")

    @pytest.mark.parametrize("gone", ["stopped_at", "lost_at", "heartbeat_at"])
    def test_who_stopped_or_died_or_is_silent_serves_nothing(self, gone: str) -> None:
        worker(**{gone: timezone.now() - timedelta(minutes=2)})
        assert not serving("default").serves("mail")


def test_a_later_task_says_when_and_can_run_now() -> None:
    worker()
    task = enqueue("shop.do", run_at=timezone.now() + timedelta(days=3))
    reason = why(task)
    assert reason.kind == "later"
    assert reason.at == task.run_at
    assert f"{timezone.localtime(task.run_at):%H:%M:%S}" in reason.text
    assert reason.remedy is not None
    assert (reason.remedy.action, reason.remedy.task_id) == ("run_now", task.pk)


def test_a_retrying_task_says_which_attempt_comes_when_and_why() -> None:
    worker()
    task = in_state("retrying")
    task.reason = "ConnectionError: password=hunter2 refused"
    reason = why(task)
    assert reason.kind == "retrying"
    assert reason.text.startswith("Attempt 3 of 5 comes at ")
    assert "ConnectionError: password=[redacted] refused" in reason.text
    assert reason.remedy is not None
    assert reason.remedy.action == "run_now"


def test_what_stands_in_the_way_later_is_said_too() -> None:
    reason = why(in_state("later"))
    assert reason.kind == "later"
    assert reason.text.endswith("No live worker serves the queue default.")
    assert [remedy.kind for remedy in reason.remedies] == ["action", "command"]


def test_the_words_of_an_error_end_before_what_stands_in_the_way_is_said() -> None:
    pause("default", "crm", by="eve")
    task = in_state("retrying", queue="crm")
    task.reason = "URLError: Connection refused"
    assert (
        "because: URLError: Connection refused. The queue crm was paused by eve" in why(task).text
    )
    task.reason = "Is anybody there?"
    assert "because: Is anybody there? The queue crm was paused by eve" in why(task).text


def test_every_time_in_it_is_one_that_pages_can_make_local() -> None:
    pause("default", "crm", by="eve")
    task = in_state("later", queue="crm")
    reason = why(task)
    assert reason.times == (task.run_at, Queue.objects.get(name="crm").paused_at)
    assert reason.pattern.count(TIME) == 2
    assert TIME not in reason.text


@pytest.mark.parametrize("attempts", [0, 2])
def test_a_time_that_has_come_is_not_said_to_come(attempts: int) -> None:
    task = enqueue("shop.do", delay=3600)
    past = timezone.now() - timedelta(minutes=5)
    Task.objects.filter(pk=task.pk).update(run_at=past, attempts=attempts)
    task.refresh_from_db()
    assert not task.due
    assert why(task).text == "No live worker serves the queue default."
    worker()
    assert why(task).text == "Its time has come: the next free worker takes it."


class TestSlots:
    """A worker has room for plain functions, for coroutines, or for both."""

    @pytest.fixture(autouse=True)
    def _coroutine(self) -> None:
        @handler("shop.async")
        async def do(task: Task) -> None:
            pass

    def test_a_queue_that_is_served_for_the_other_kind_alone_is_told(self) -> None:
        worker("default", threads=0)
        worker("other", pk=5)
        assert why(enqueue("shop.async")).kind == "due"
        reason = why(enqueue("shop.do"))
        assert reason.kind == "no_worker"
        assert reason.text == (
            "No live worker of the queue default takes it: all run with --threads 0."
        )
        assert reason.remedy is not None
        assert reason.remedy.command == "python manage.py runworker --queues default"
        Worker.objects.update(threads=1, coroutines=0)
        assert why(enqueue("shop.do")).kind == "due"
        assert why(enqueue("shop.async")).text.endswith("all run with --coroutines 0.")

    def test_every_worker_has_room_for_aftersaves_own(self) -> None:
        worker(threads=0)
        own = Task(type="aftersave", action="bulk", queue="aftersave", due=True)
        own.state, own.run_at = "scheduled", timezone.now()
        assert why(own).kind == "due"


class TestWaiting:
    def test_it_says_for_whom_with_a_link_to_each(self) -> None:
        first = [enqueue("shop.do") for _ in range(2)]
        reason = why(enqueue("shop.after", after=first))
        assert reason.kind == "waiting"
        assert reason.text == f"It waits for #{first[0].pk}, #{first[1].pk}."
        assert [remedy.task_id for remedy in reason.remedies] == [task.pk for task in first]

    def test_what_is_done_or_withdrawn_is_not_named(self) -> None:
        done, open_one = enqueue("shop.do"), enqueue("shop.do")
        task = enqueue("shop.after", after=[done, open_one])
        finish(done)
        assert why(task).text == f"It waits for #{open_one.pk}."

    def test_what_failed_is_named_first_because_it_needs_somebody(self) -> None:
        open_one, broken = enqueue("shop.do"), enqueue("shop.do")
        task = enqueue("shop.after", after=[open_one, broken])
        finish(broken, "failed")
        reason = why(task)
        assert reason.text == (
            f"It waits for #{broken.pk}, #{open_one.pk}; of these #{broken.pk} failed."
        )
        assert reason.remedies[0].task_id == broken.pk

    def test_what_the_reader_may_not_see_is_not_named(self) -> None:
        hidden, other, mine = (enqueue("shop.do", queue=name) for name in ("a", "b", "mine"))
        finish(hidden, "failed")
        visible = Task.objects.filter(queue="mine")
        both, none = (enqueue("shop.do", after=after) for after in ([hidden, mine], [other]))
        reasons = whys([both, none], visible=visible)
        assert reasons[both.pk].text == f"It waits for #{mine.pk}."
        assert [remedy.task_id for remedy in reasons[both.pk].remedies] == [mine.pk]
        assert reasons[none.pk].text == "It waits for other tasks."
        assert reasons[none.pk].remedies == ()

    def test_of_many_only_a_few_are_named(self) -> None:
        first = [enqueue("shop.do") for _ in range(30)]
        reason = why(enqueue("shop.after", after=first))
        assert reason.text.endswith(f"#{first[2].pk} ….")
        assert len(reason.remedies) == 3


class TestRunning:
    def test_it_names_the_worker(self) -> None:
        worker()
        task = start(enqueue("shop.do"))
        task.started_at = timezone.now()
        assert why(task).text.startswith("The worker web-3:7 performs it since ")

    def test_before_the_handler_is_entered_it_is_starting(self) -> None:
        worker()
        assert why(start(enqueue("shop.do"))).text == "The worker web-3:7 is starting it."

    def test_a_worker_that_is_silent_is_not_said_to_perform_it(self) -> None:
        silent = worker(heartbeat_at=timezone.now() - timedelta(minutes=5))
        task = start(enqueue("shop.do", queue="mail"))
        task.started_at = timezone.now()
        reason = why(task)
        assert (reason.kind, reason.times) == ("running", (silent.heartbeat_at,))
        assert reason.text.startswith("The worker web-3:7 has it and was heard of last at ")
        assert reason.text.endswith("No other worker is there to take it over.")
        assert reason.remedy is not None
        assert reason.remedy.command == "python manage.py runworker --queues mail"
        worker("other", pk=5)
        reason = why(task)
        assert reason.text.endswith(": another takes it over.")
        assert reason.remedies == ()

    def test_a_worker_that_is_gone_is_not_named(self) -> None:
        worker(lost_at=timezone.now())
        assert "is gone" in why(start(enqueue("shop.do"))).text
        assert "is gone" in why(start(enqueue("shop.do"), worker=5)).text


def test_a_failed_task_says_why_what_to_do_and_can_be_retried() -> None:
    handler("shop.card", on_failure="Ask for another card.", runbook="https://wiki.example/card")(
        print
    )
    task = finish(enqueue("shop.card"), "failed", reason="card refused: api_key=abc")
    reason = why(task)
    assert (reason.kind, reason.text) == ("failed", "card refused: api_key=[redacted]")
    assert [remedy.kind for remedy in reason.remedies] == ["action", "advice", "address"]
    assert reason.remedies[0].action == "retry"
    assert reason.remedies[1].text == "Ask for another card."
    assert reason.remedies[2].url == "https://wiki.example/card"


@pytest.mark.parametrize(
    ("state", "stored", "said"),
    [
        ("failed", "", "It failed."),
        ("completed", "", "It is done."),
        ("completed", "marked as done by eve: by phone", "marked as done by eve: by phone"),
        ("cancelled", "", "It was cancelled."),
        ("cancelled", "cancelled by eve: twice", "cancelled by eve: twice"),
        ("cancelled", "record deleted", "It was cancelled because its record was deleted."),
    ],
)
def test_what_is_over_says_how_it_ended(state: str, stored: str, said: str) -> None:
    task = in_state(state)
    task.reason = stored
    reason = why(task)
    assert (reason.kind, reason.text) == (state, said)


def test_a_reason_that_holds_the_mark_of_the_time_breaks_nothing() -> None:
    task = in_state("retrying")
    task.reason = "\ufffc\ufffc evil"
    assert why(task).text.count("\ufffc") == 0
    assert "evil" in why(task).text


def test_a_whole_list_costs_no_more_queries_than_one_of_each(
    django_assert_num_queries: object,
) -> None:
    Queue.objects.create(name="crm", paused_at=timezone.now())
    worker()
    for _ in range(5):
        for state in ("waiting", "later", "due", "running", "retrying", "failed", "completed"):
            in_state(state)
        enqueue("shop.do", queue="crm")
    tasks = list(Task.objects.all())
    with django_assert_num_queries(4):  # type: ignore[operator]
        reasons = whys(tasks)
    assert set(reasons) == {task.pk for task in tasks}
    assert whys([]) == {}


def test_it_speaks_the_language_of_the_moment() -> None:
    task = in_state("failed")
    with translation.override("de"):
        assert why(task).text
