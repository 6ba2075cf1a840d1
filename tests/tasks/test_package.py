"""``import tasks``: lazy names, and a host that has a module of that name itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tasks

PROJECT = Path(tasks.__file__).resolve().parent.parent
SETTINGS = """
SECRET_KEY = "x"
INSTALLED_APPS = {apps}
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
"""
APPS = ["tasks", "workers", "channels", "django.contrib.contenttypes", "django.contrib.auth"]


def python(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a directory that comes before ours on the path, as manage.py's does."""
    path = os.pathsep.join([str(directory), str(PROJECT)])
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DJANGO")}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env={**kept, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "host_settings"},
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )


def make_host(directory: Path, *, apps: list[str] = APPS, **modules: str) -> None:
    (directory / "host_settings.py").write_text(SETTINGS.format(apps=apps))
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)


def test_every_public_name_is_there_again_and_again() -> None:
    for _ in range(2):
        namespace: dict[str, object] = {}
        exec("from tasks import *", namespace)
        for name in tasks.__all__:
            assert callable(namespace[name]), f"{name} is {namespace[name]!r}"


def test_no_module_of_the_package_hides_a_public_name() -> None:
    modules = {path.stem for path in (PROJECT / "tasks").iterdir()}
    assert modules.isdisjoint(tasks.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'enqueu'"):
        _ = tasks.enqueu
    assert not hasattr(tasks, "backend_of_nobody")


def test_the_package_can_be_imported_before_django_is_set_up(tmp_path: Path) -> None:
    code = "import tasks, sys; assert 'django' not in sys.modules; print('ok')"
    done = python(code, tmp_path)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_a_handler_may_be_declared_before_the_apps_are_ready(tmp_path: Path) -> None:
    make_host(tmp_path)
    done = python("from tasks import handler; handler('math.add')(print)", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_host_with_its_own_tasks_module_is_told_both_files(tmp_path: Path) -> None:
    make_host(tmp_path, tasks="def send_mail(): ...")
    done = python("import django; django.setup()", tmp_path)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert "ImproperlyConfigured" in error
    assert str(tmp_path / "tasks.py") in error
    assert str(PROJECT / "tasks" / "__init__.py") in error
    assert "Rename" in error


def test_a_host_with_its_own_tasks_package_is_told_both_files(tmp_path: Path) -> None:
    make_host(tmp_path)
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("")
    done = python("import django; django.setup()", tmp_path)
    error = done.stderr.splitlines()[-1]
    assert str(tmp_path / "tasks" / "__init__.py") in error
    assert str(PROJECT / "tasks" / "__init__.py") in error


def test_a_host_with_its_own_workers_module_is_told_both_files(tmp_path: Path) -> None:
    make_host(tmp_path, workers="")
    done = python("import django; django.setup()", tmp_path)
    error = done.stderr.splitlines()[-1]
    assert "ImproperlyConfigured" in error
    assert str(tmp_path / "workers.py") in error
    assert str(PROJECT / "workers" / "__init__.py") in error


def test_tasks_modules_inside_the_hosts_apps_do_not_disturb(tmp_path: Path) -> None:
    make_host(tmp_path, apps=[*APPS, "shop"])
    shop = tmp_path / "shop"
    shop.mkdir()
    for name in ("__init__", "tasks"):
        (shop / f"{name}.py").write_text("")
    (shop / "handlers.py").write_text("from tasks import handler\nhandler('shop.sell')(print)\n")
    code = "import django; django.setup(); from tasks.handlers import registry; print(*registry)"
    done = python(code, tmp_path)
    assert "shop.sell" in done.stdout, done.stderr


@pytest.mark.parametrize(("wanted", "found"), [(True, True), (["shop"], True), ([], False)])
def test_handlers_are_discovered_where_the_settings_say(
    tmp_path: Path, wanted: bool | list[str], found: bool
) -> None:
    make_host(tmp_path, apps=[*APPS, "shop"])
    with (tmp_path / "host_settings.py").open("a") as settings:
        settings.write(f"AFTERSAVE = {{'AUTODISCOVER': {wanted!r}}}\n")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "rules.py").write_text("print('found')\n")
    done = python("import django; django.setup()", tmp_path)
    assert (done.returncode, "found" in done.stdout) == (0, found), done.stderr


def test_an_app_to_discover_that_is_not_installed_is_named_with_the_setting(tmp_path: Path) -> None:
    make_host(tmp_path, apps=APPS)
    with (tmp_path / "host_settings.py").open("a") as settings:
        settings.write("AFTERSAVE = {'AUTODISCOVER': ['shopp']}\n")
    done = python("import django; django.setup()", tmp_path)
    assert done.returncode == 1
    assert "AFTERSAVE['AUTODISCOVER'] names 'shopp': No installed app" in done.stderr


def test_a_broken_handlers_module_is_not_swallowed(tmp_path: Path) -> None:
    make_host(tmp_path, apps=[*APPS, "shop"])
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").write_text("")
    (tmp_path / "shop" / "handlers.py").write_text("import module_that_is_missing\n")
    done = python("import django; django.setup()", tmp_path)
    assert done.returncode == 1
    assert "module_that_is_missing" in done.stderr
