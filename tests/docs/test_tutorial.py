"""The tutorial as a reader does it: its files, its commands, its click."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orders.demo.visitor import Visitor
from tests.docs.pages import DOCS, Block, blocks
from tests.docs.project import Project

TUTORIAL = DOCS / "tutorial.md"
CLICK = "<!-- test: press Retry on task 2 -->"
SIGN_IN = re.compile(
    r"<http://127\.0\.0\.1:8000(/\S+)>\s+and\s+sign\s+in\s+as\s+`(\w+)`\s+with\s+the\s+password\s+`(\w+)`"
)

#: A project is made, migrated and run: a slow machine takes its time.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    project.stop()


def test_the_tutorial_works_as_it_is_written(project):
    before, click, _ = TUTORIAL.read_text().partition(CLICK)
    assert click, "the tutorial does not say any more when to press Retry"
    first_part = [block for block in blocks(TUTORIAL) if block.line <= before.count("\n")]
    for block in first_part:
        follow(project, block)
    press_retry(project)
    for block in blocks(TUTORIAL)[len(first_part) :]:
        follow(project, block)
    assert "We have your order number 1." in project.log("runworker")


def follow(project: Project, block: Block) -> None:
    if block.language == "python":
        project.write(block)
    else:
        assert block.language == "console", f"{block} is neither a file nor commands"
        project.type(block)


def press_retry(project: Project) -> None:
    found = SIGN_IN.search(TUTORIAL.read_text())
    assert found, "the tutorial does not say where to sign in, and as whom"
    staff = Visitor(project.address)
    staff.sign_in(found[2], found[3], at="/admin/login/")
    assert "email.order_confirmation" in staff.get(found[1]).text
    page = staff.get("/admin/tasks/task/2/change/")
    assert page.text.count("Connection refused") >= 2
    answer = staff.send(page.form("/admin/tasks/task/2/retry/"))
    assert "was retried" in answer.text
