"""The reference is complete and true: what it lists is compared with the code."""

import inspect
import re
from dataclasses import fields
from datetime import timedelta

import pytest
from django.core.management import load_command_class
from django.core.management.base import DjangoHelpFormatter
from django.dispatch import Signal

from tasks import checks, exceptions, signals
from tasks.conf import Settings
from tasks.dashboard import grammar
from tasks.enqueueing import build
from tasks.handlers import handler
from tasks.models import Incident, Queue, State, Task, TaskQuerySet
from tests.docs.pages import DOCS, REFERENCE, code, listed, section, table
from workers import testing

SETTINGS_PAGE = REFERENCE / "settings.md"
ROOMS = (
    "tasks",
    "tasks/models",
    "tasks/dashboard",
    "tasks/dashboard/live",
    "tasks/dashboard/pages",
    "tasks/admin",
    "workers",
)
NO_OPTION = {"-h", "--help", "--version"}


def documented_settings():
    return {code(row[0]): row for row in table(SETTINGS_PAGE.read_text())}


def test_every_setting_is_documented_and_no_other():
    assert set(documented_settings()) == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("field", fields(Settings), ids=lambda field: field.name)
def test_type_and_default_of_a_setting_are_the_codes(field):
    _, kind, default, effect = documented_settings()[field.name]
    assert eval(code(default), {"timedelta": timedelta}) == field.default
    assert code(kind) == type_of(field)
    assert effect


def type_of(field):
    if type(field.type) is type:
        return field.type.__name__
    return re.sub(r"\b(datetime|collections\.abc|typing)\.", "", str(field.type))


@pytest.mark.parametrize(
    ("app", "name"), [("workers", "runworker"), ("tasks", "aftersave_alerts"), ("orders", "demo")]
)
def test_options_of_a_command_are_all_documented_with_their_defaults(app, name):
    shown = {code(row[0]): row[1] for row in table(section(REFERENCE / "commands.md", name))}
    known = options_of(app, name)
    assert set(shown) == set(known)
    for option, default in known.items():
        if default not in (None, "", False):
            assert code(shown[option]) == str(default), option


def options_of(app, name):
    parser = load_command_class(app, name).create_parser("manage.py", name)
    actions = [
        action
        for action in parser._actions
        if action.option_strings
        and action.help != "==SUPPRESS=="
        and not set(action.option_strings) & (NO_OPTION | DjangoHelpFormatter.show_last)
    ]
    return {action.option_strings[-1]: action.default for action in actions}


def test_every_check_is_documented_and_no_other():
    ids = set(re.findall(r"aftersave\.[EW]\d+", inspect.getsource(checks)))
    assert listed(REFERENCE / "checks.md", "Checks") == ids
    elsewhere = "".join(page.read_text() for page in DOCS.rglob("*.md"))
    assert set(re.findall(r"aftersave\.[EW]\d+", elsewhere)) <= ids


def test_every_error_is_documented_and_no_other():
    ours = {
        name
        for name, found in vars(exceptions).items()
        if inspect.isclass(found) and issubclass(found, exceptions.AftersaveError)
    }
    assert listed(REFERENCE / "errors.md", "Errors") == ours


def test_every_signal_is_documented_and_no_other():
    ours = {name for name, found in vars(signals).items() if isinstance(found, Signal)}
    assert listed(REFERENCE / "signals.md", "Signals") == ours


def test_every_option_of_a_handler_is_documented():
    options = set(inspect.signature(handler).parameters) - {"name"}
    assert listed(REFERENCE / "handlers.md", "Options") == options


def test_every_option_of_enqueue_is_documented():
    options = set(inspect.signature(build).parameters) - {"name", "data"}
    assert listed(REFERENCE / "enqueue.md", "Options") == options


def test_every_field_of_a_task_is_documented():
    stored = {field.name for field in Task._meta.concrete_fields}
    assert listed(REFERENCE / "task.md", "Fields") == stored


def test_every_method_and_property_of_a_task_is_documented():
    own = {name: found for name, found in vars(Task).items() if not name.startswith("_")}
    methods = {name for name, found in own.items() if inspect.isfunction(found)}
    methods = {name for name in methods if not name.startswith("get_")}
    properties = {name for name, found in own.items() if isinstance(found, property)}
    assert names(listed(REFERENCE / "task.md", "Methods")) == methods
    assert listed(REFERENCE / "task.md", "Properties") == properties


def test_every_question_about_tasks_is_documented():
    verbs = {name for name, found in vars(TaskQuerySet).items() if inspect.isfunction(found)}
    verbs = {name for name in verbs if not name.startswith("_")}
    assert names(listed(REFERENCE / "task.md", "Questions")) == verbs


def test_every_state_is_explained():
    states = {state.value for state in State}
    assert listed(DOCS / "explanation" / "how-it-works.md", "The life of a task") == states


def test_every_word_of_the_search_is_documented_with_an_example_that_is_understood():
    rows = table((REFERENCE / "search.md").read_text())
    assert [code(row[0]) for row in rows] == list(grammar.KEYS)
    for word, example, *_ in rows:
        terms, wrong = grammar.parse(code(example))
        assert [term.key for term in terms] == [code(word)]
        assert not wrong


def test_every_permission_is_explained():
    rights = {
        *(
            f"tasks.{name}"
            for model in (Task, Queue, Incident)
            for name, _ in model._meta.permissions
        ),
        "tasks.view_task",
        "tasks.view_queue",
    }
    assert listed(DOCS / "howto" / "existing-project.md", "Permissions") == rights


def test_everything_for_tests_of_hosts_is_documented():
    text = (DOCS / "howto" / "testing.md").read_text()
    for name in testing.__all__:
        assert re.search(rf"^## `{name}\b", text, re.MULTILINE), name
    for function in (testing.run_tasks, testing.assert_enqueued):
        shown = re.search(rf"^## `{function.__name__}\(([^`]*)\)`$", text, re.MULTILINE)
        assert shown
        assert shown[1] == words(function)


def words(function):
    """The parameters as the headings write them: names and defaults, without types."""
    parameters = inspect.signature(function).parameters.values()
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
    text = str(inspect.Signature(bare))[1:-1]
    return text.replace("'", '"')


def names(signatures):
    return {signature.partition("(")[0] for signature in signatures}


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_has_its_line_on_the_page_of_rooms(room):
    root = DOCS.parent / room
    modules = {path.name for path in root.glob("*.py") if path.name != "__init__.py"}
    text = section(DOCS / "explanation" / "rooms.md", f"`{room}/`")
    assert {code(row[0]) for row in table(text)} == modules


def test_every_variable_of_the_example_host_is_documented():
    project = DOCS.parent
    asked = re.findall(r"env\.\w+\(\s*\"([A-Z_]+)\"", (project / "config/settings.py").read_text())
    named = section(project / "CONTRIBUTING.md", "The example host's environment")
    assert {code(row[0]) for row in table(named)} == set(asked)
