"""What the README and the how-tos on testing and existing projects show, run in a project."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, README, blocks
from tests.docs.project import Project

#: A project is made, migrated and run: a slow machine takes its time.
pytestmark = pytest.mark.timeout(600)

TESTING = DOCS / "howto" / "testing.md"

SETTINGS = """
INSTALLED_APPS += ["shop"]
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = BASE_DIR / "mail"
# As the check aftersave.W006 asks for.
DATABASES["default"]["OPTIONS"] = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL",
    "timeout": 20,
}
"""
ALONE = """

from django.test import SimpleTestCase


class Alone(SimpleTestCase):
    def test_alone(self):
        test_the_address_comes_from_the_data()
"""
ORDER = "from shop.models import Order; Order.objects.create(email='ada@example.com')"
LOOK = "from tasks.models import Task; [print(t, t.state) for t in Task.objects.order_by('id')]"


def test_the_lines_of_the_readme_run_an_order_and_the_shown_tests_pass(tmp_path):
    project = Project(tmp_path)
    done(project, "django-admin startproject website .")
    done(project, "python manage.py startapp shop")
    for block in blocks(README, "python"):
        project.write(block)
    (tmp_path / "website" / "settings.py").open("a").write(SETTINGS)
    done(project, "python manage.py makemigrations --verbosity 0 shop")
    done(project, "python manage.py migrate --verbosity 0")
    done(project, f'python manage.py shell -v 0 -c "{ORDER}"')
    told = done(project, "python manage.py runworker --drain")
    assert done(project, f'python manage.py shell -v 0 -c "{LOOK}"').splitlines() == [
        "inventory.reserve #1 completed",
        "email.order_confirmation #2 completed",
    ], told
    assert len(list((tmp_path / "mail").iterdir())) == 1

    first, *_, alone = blocks(TESTING, "python")
    project.write(first)
    (tmp_path / "shop" / "tests_alone.py").write_text(alone.text + ALONE)
    assert "Ran 4 tests" in done(project, "python manage.py test shop")


def done(project: Project, command: str) -> str:
    """What the command printed; it must not fail."""
    run = project.run(command)
    assert run.returncode == 0, f"{command}\n{run.stdout}\n{run.stderr}"
    return run.stdout + run.stderr


def test_an_own_module_named_tasks_or_workers_gets_an_error_with_both_files(tmp_path):
    for number, name in enumerate(("tasks", "workers")):
        folder = Path(tmp_path / str(number))
        folder.mkdir()
        project = Project(folder)
        (folder / f"{name}.py").touch()
        (folder / "own.py").write_text(
            "SECRET_KEY = 'x'\n"
            "INSTALLED_APPS = ['tasks', 'workers', 'django.contrib.contenttypes']\n"
        )
        run = project.run("DJANGO_SETTINGS_MODULE=own python -m django check")
        assert run.returncode
        assert "ImproperlyConfigured" in run.stderr
        assert str(folder / f"{name}.py") in run.stderr
        assert f"{name}/__init__.py" in run.stderr


def test_a_fresh_project_takes_what_the_page_about_existing_ones_says(tmp_path):
    page = blocks(DOCS / "howto" / "existing-project.md", "python")
    project = Project(tmp_path)
    done(project, "python -m django startproject website .")
    done(project, "python manage.py startapp shop")
    (apps,) = (block for block in page if block.text.startswith("INSTALLED_APPS"))
    with (tmp_path / "website" / "settings.py").open("a") as settings:
        settings.write(apps.text)
    named = [block for block in page if block.file]
    assert [block.file[0] for block in named] == ["shop/models.py", "shop/admin.py"]
    for block in named:
        project.write(block)
    done(project, "python manage.py makemigrations shop")
    done(project, "python manage.py migrate")
    assert "aftersave.W006" in done(project, "python manage.py check")
