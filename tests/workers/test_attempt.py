import logging
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from tasks import enqueue
from tasks.handlers import current_task
from tasks.models import LogLine, Task
from tests.workers.tools import ME, attempt, claimed, flusher
from workers.attempt import Clock
from workers.capture import TaskLog, _handlers_below_root, capture_logging

pytestmark = pytest.mark.django_db


class Printed(logging.Handler):
    """A host's own handler."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger without any handler, at WARNING as Python leaves it."""
    root = logging.getLogger()
    ours = [h for h in root.handlers if not type(h).__module__.startswith("_pytest")]
    level = root.level
    # Pytest's handlers are among them: filtered for ever, they would hide what later tests log.
    everyone = {*root.handlers, *_handlers_below_root(), logging.lastResort}
    filters = {handler: list(handler.filters) for handler in everyone if handler}
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    yield root
    root.setLevel(level)
    root.handlers[:] = ours
    for handler, known in filters.items():
        handler.filters[:] = known


@pytest.fixture
def running() -> Iterator[list[str]]:
    """Texts logged to a task that runs here."""
    said: list[str] = []
    task = claimed(enqueue("work.noop"))
    task._execution = attempt(task, say=lambda attempt, line: said.append(line.text))  # type: ignore[union-attr]
    token = current_task.set(task)
    yield said
    current_task.reset(token)


def test_what_a_handler_logs_from_info_up_is_shown_on_its_task(
    root: logging.Logger, running: list[str]
) -> None:
    capture_logging()
    shop = logging.getLogger("shop.mail")
    shop.debug("not this")
    shop.info("sent to %s", "me")
    shop.error("bounced")
    assert running == ["sent to me", "bounced"]


@pytest.mark.parametrize("name", ["tasks", "tasks.bell", "workers", "django.db.backends"])
def test_what_the_engine_and_the_orm_log_is_not_the_handlers(
    root: logging.Logger, running: list[str], name: str
) -> None:
    capture_logging()
    logging.getLogger(name).warning("own talk")
    logging.getLogger("tasks_of_mine").warning("shown")
    assert running == ["shown"]


def test_outside_a_handler_nothing_is_captured(root: logging.Logger) -> None:
    capture_logging()
    logging.getLogger("shop").error("nobody's")
    assert not LogLine.objects.exists()


def test_a_line_that_cannot_be_formatted_does_not_raise(
    root: logging.Logger, running: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    capture_logging()
    logging.getLogger("shop").info("%d", "no number")
    assert running == []


def test_handlers_of_the_host_print_what_they_printed_before(root: logging.Logger) -> None:
    own, below = Printed(), Printed()
    root.addHandler(own)
    quiet, chatty = logging.getLogger("quiet"), logging.getLogger("chatty")
    quiet.addHandler(below)
    chatty.setLevel(logging.DEBUG)
    try:
        capture_logging()
        quiet.info("was not printed")
        quiet.warning("was")
        chatty.debug("was too")
        logging.getLogger("chatty.child").info("also")
    finally:
        quiet.removeHandler(below)
        chatty.setLevel(logging.NOTSET)
    assert own.lines == ["was", "was too", "also"]
    assert below.lines == ["was"]


def test_a_host_without_handlers_still_sees_warnings(
    root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    root.handlers.clear()
    capture_logging()
    logging.getLogger("quiet").info("was not printed")
    logging.getLogger("quiet").warning("was printed")
    assert capsys.readouterr().err == "was printed\n"


def test_a_host_that_prints_everything_goes_on(root: logging.Logger) -> None:
    own = Printed()
    root.addHandler(own)
    root.setLevel(logging.DEBUG)
    capture_logging()
    logging.getLogger("quiet").debug("all")
    assert own.lines == ["all"]
    assert root.level == logging.DEBUG
    assert isinstance(root.handlers[-1], TaskLog)


def test_past_the_limit_one_line_says_so_and_the_rest_is_cut(settings: Any) -> None:
    settings.AFTERSAVE = {"LOG_LINES": 3}
    own = flusher()
    task = claimed(enqueue("work.noop"))
    made = attempt(task, say=own.say)
    for number in range(9):
        made.log(f"line {number}", logging.INFO)
    own.flush(ME)
    assert [line.text for line in LogLine.objects.all()] == [
        "line 0",
        "line 1",
        "line 2",
        "3 lines logged; the rest of this attempt is cut.",
    ]


def test_a_line_is_cleaned_and_cut_in_the_handlers_thread(settings: Any) -> None:
    settings.AFTERSAVE = {"LOG_LINE_LIMIT": 100}
    said: list[LogLine] = []
    made = attempt(Task(), say=lambda attempt, line: said.append(line))  # type: ignore[arg-type]
    made.log("\x00\ud800" + "é" * 200, 10**30)
    assert len(said[0].text.encode()) <= 100
    assert "\x00" not in said[0].text
    assert said[0].level == 32767


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ((1, 2), {"done": 1, "total": 2}),
        ((Decimal("0.5"), None), {"done": 0.5, "total": None}),
        ((float("nan"), float("inf")), {"done": None, "total": None}),
        ((10**20, True), {"done": 1e20, "total": 1.0}),
    ],
)
def test_progress_is_kept_as_numbers_that_json_has(given: Any, kept: dict[str, Any]) -> None:
    own = flusher()
    task = claimed(enqueue("work.noop"))
    attempt(task, say=own.say).progress(*given)
    own.flush(ME)
    task.refresh_from_db()
    assert task.progress_value == kept


def test_progress_that_is_no_number_is_the_handlers_error() -> None:
    with pytest.raises(ValueError, match="half"):
        attempt(Task()).progress("half", 2)  # type: ignore[arg-type]


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_clock_tells_the_databases_time(settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    clock = Clock()
    ahead = timezone.now() + timedelta(hours=1)
    clock.measure(ahead)
    assert 0 <= (clock.now() - ahead).total_seconds() < 5
    assert timezone.is_naive(clock.now()) is not use_tz


def test_the_last_attempt_is_the_one_with_no_other_allowed() -> None:
    counts = [(1, 2), (2, 2), (3, 2), (1, 1)]
    tasks = [Task(attempts=number, max_attempts=most) for number, most in counts]
    assert [attempt(task).is_last for task in tasks] == [False, True, True, True]
