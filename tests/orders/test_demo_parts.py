import signal
import socket
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth import authenticate

from orders.demo.crm import REFUSED_DOMAIN, SLOW_DOMAIN, FakeCrm
from orders.demo.errors import AlreadyRunning, ForeignFolder, ProcessDied
from orders.demo.folder import Folder
from orders.demo.people import PEOPLE, welcome
from orders.demo.processes import Child, free_port
from orders.demo.upkeep import UNHANDLED, forget_oldest, tidy
from orders.demo.visitor import Page
from orders.models import Order, Product
from tasks.models import Task
from tests.services.waiting import wait_for


@pytest.fixture
def folder(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr("tempfile.tempdir", str(short_path))
    return Folder.of_this_user()


def test_a_second_demo_is_told_where_the_first_one_runs(folder: Folder) -> None:
    with folder.locked():
        folder.note_address("http://127.0.0.1:8000")
        with pytest.raises(AlreadyRunning, match="at http://127"):
            folder.locked().__enter__()
    with folder.locked():
        pass


def test_passwords_are_kept_for_the_next_start_and_for_nobody_else(folder: Folder) -> None:
    password = folder.secret("care")

    assert Folder.of_this_user().secret("care") == password
    assert folder.secret("viewer") != password
    assert stat.S_IMODE((folder.path / "secrets.json").stat().st_mode) == 0o600


def test_a_folder_that_is_a_link_to_elsewhere_is_not_used(folder: Folder, tmp_path: Path) -> None:
    folder.remove()
    folder.path.symlink_to(tmp_path, target_is_directory=True)

    with pytest.raises(ForeignFolder):
        Folder.of_this_user()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db
def test_each_person_may_do_what_the_work_needs_and_no_more(folder: Folder) -> None:
    welcome(folder)
    passwords = {person.login: password for person, password in welcome(folder).items()}
    viewer, care, operations = [
        authenticate(username=person.login, password=passwords[person.login]) for person in PEOPLE
    ]

    assert viewer is not None
    assert care is not None
    assert operations is not None
    assert viewer.is_staff
    assert viewer.has_perm("tasks.view_task")
    assert not viewer.has_perm("tasks.view_task_data")
    assert not viewer.has_perm("tasks.retry_task")
    assert care.has_perms(["tasks.retry_task", "tasks.cancel_task", "tasks.view_task_data"])
    assert care.has_perms(["tasks.change_task_data", "tasks.run_task_now"])
    assert not care.has_perm("tasks.complete_task")
    assert not care.has_perm("tasks.pause_queue")
    assert operations.has_perms(["tasks.complete_task", "orders.change_product"])
    assert operations.has_perms(["tasks.bulk_task", "tasks.pause_queue", "tasks.manage_incident"])
    assert not operations.is_superuser


@pytest.mark.django_db
def test_the_oldest_orders_are_forgotten_with_their_tasks(place: Callable[..., Order]) -> None:
    orders = [place() for _ in range(5)]

    assert forget_oldest(3) == 2
    assert forget_oldest(3) == 0
    assert set(Order.objects.all()) == set(orders[2:])
    assert {task.record for task in Task.objects.all()} == set(orders[2:])


@pytest.mark.django_db
def test_tidying_fills_the_shelf_and_leaves_one_task_nobody_handles(
    place: Callable[..., Order], lamp: Product, tmp_path: Path
) -> None:
    tidy(tmp_path)
    tidy(tmp_path)

    lamp.refresh_from_db()
    assert lamp.stock > 100
    assert Task.objects.named(UNHANDLED).get().handler is None


def test_the_crm_fails_for_the_same_customers_every_time() -> None:
    crm = FakeCrm(busy_times=2, retry_after=1)
    answers = {
        domain: [crm.answer(domain, order_of(f"ada@{domain}"))[0] for _ in range(3)]
        for domain in ("post.example", SLOW_DOMAIN, REFUSED_DOMAIN)
    }
    crm.stop()

    assert answers == {
        "post.example": [200, 200, 200],
        SLOW_DOMAIN: [503, 503, 200],
        REFUSED_DOMAIN: [422, 200, 200],
    }


def test_a_taken_port_leads_to_the_next_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert port < free_port(port) <= port + 99


def test_a_process_that_died_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", "print('no more memory'); raise SystemExit(3)"]
    child = Child("the worker", arguments, log=tmp_path / "log")
    child.process.wait(10)

    with pytest.raises(ProcessDied, match=r"the worker ended with code 3[^$]*no more memory"):
        child.demand_alive()


def test_a_process_that_does_not_want_to_end_is_ended(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)"
    log = tmp_path / "log"
    child = Child("it", [sys.executable, "-c", f"{stubborn}; time.sleep(60)"], log=log)
    wait_for(lambda: "up" in log.read_text())
    child.stop(patience=0.2)

    assert child.process.returncode == -signal.SIGKILL


def test_a_form_is_found_by_where_it_is_sent() -> None:
    page = Page(
        "http://shop.example/admin/",
        200,
        '<form action="/search/"><input name="q"></form>'
        '<form action="retry/" method="post"><input type="hidden" name="t" value="1&amp;2">'
        '<textarea name="reason"></textarea><input type="checkbox" name="c" value="y"></form>',
    )

    form = page.form("/admin/retry/")
    assert form.action == "http://shop.example/admin/retry/"
    assert form.values() == {"t": "1&2", "reason": ""}


def test_a_button_that_sends_a_form_elsewhere_is_found_by_where_it_sends_it() -> None:
    page = Page(
        "http://shop.example/admin/",
        200,
        '<form id="one" method="post"><input type="hidden" name="t" value="12"></form>'
        '<button form="one" formaction="/7/retry/" name="version" value="3">Retry</button>'
        '<button form="one" formaction="/7/cancel/">Cancel</button><input form="one" name="why">',
    )

    assert page.form("/7/retry/").values() == {"t": "12", "why": "", "version": "3"}
    assert page.form("/7/cancel/").values() == {"t": "12", "why": ""}


def order_of(email: str) -> dict[str, object]:
    return {"number": "1001", "customer": {"name": "Ada", "email": email}}
