"""Pages hang together: links lead somewhere, code is code, commands and packages exist."""

import ast
import re
import shlex
import tomllib

import pytest
from django.core.management import get_commands, load_command_class

from tests.docs.pages import DOCS, PROJECT, README, anchors, blocks, pages, prose

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMES = [str(page.relative_to(PROJECT)) for page in pages()]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings_that_exist(name):
    page = PROJECT / name
    for link in LINK.findall(prose(page)):
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_every_page_is_reached_from_the_index():
    linked = {
        (DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(prose(DOCS / "index.md"))
    }
    assert linked == set(DOCS.rglob("*.md")) - {DOCS / "index.md"}


def test_every_picture_is_shown_and_light():
    for picture in (DOCS / "images").iterdir():
        assert any(picture.name in page.read_text() for page in pages()), f"{picture} is not shown"
        assert picture.stat().st_size < 200_000


@pytest.mark.parametrize("name", NAMES)
def test_python_blocks_are_python(name):
    for block in blocks(PROJECT / name, "python"):
        compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("name", NAMES)
def test_what_blocks_import_from_us_exists(name):
    for block in blocks(PROJECT / name, "python"):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in (
                "tasks",
                "workers",
            ):
                home = __import__(str(node.module), fromlist=["*"])
                for imported in node.names:
                    assert hasattr(home, imported.name), f"{block}: {node.module}.{imported.name}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_and_their_options_exist(name):
    known = get_commands()
    for block in blocks(PROJECT / name, "console"):
        for line in re.findall(r"manage\.py (.+)", block.text):
            command, *options = shlex.split(line) if line.count('"') != 1 else line.split()[:1]
            assert command in known, f"{block}: manage.py {command}"
            parser = load_command_class(str(known[command]), command).create_parser(
                "manage.py", command
            )
            for option in (option for option in options if option.startswith("--")):
                assert option in parser._option_string_actions, f"{block}: {command} {option}"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_installed_is_this_distribution_with_extras_it_has(name):
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    text = (PROJECT / name).read_text()
    for package, extras in re.findall(r'pip install "?([\w-]+)(?:\[([\w,]+)\])?', text):
        assert package == project["name"]
        assert set(filter(None, extras.split(","))) <= set(project["optional-dependencies"])


def test_the_readme_names_the_make_targets_that_exist():
    makefile = (PROJECT / "Makefile").read_text()
    for page in (README, PROJECT / "CONTRIBUTING.md"):
        for target in re.findall(r"^ +make (\w+)", page.read_text(), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
