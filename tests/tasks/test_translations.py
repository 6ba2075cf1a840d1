"""German and French say everything that English says, and the compiled files say the same."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import read_mo
from babel.messages.pofile import read_po
from django.utils.translation.template import templatize

import tasks

PACKAGE = Path(tasks.__file__).parent
LANGUAGES = ("de", "fr")
KEYWORDS = DEFAULT_KEYWORDS | {
    f"{name}{lazy}": DEFAULT_KEYWORDS[name]
    for name in ("gettext", "ngettext", "pgettext", "npgettext")
    for lazy in ("", "_lazy", "_noop")
}
PLACEHOLDER = re.compile(r"%\((\w+)\)[a-z]|%[sd]")

#: How Django rewrites the texts of a template for a program that reads Python.
STRING = r"""u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
CALL = re.compile(rf"\b(n?p?)(?:gettext|_)\(((?:{STRING}|[ ,]|count)+)\)")

#: Context and text; of a text with a plural, the singular.
Key = tuple[str, str]


def written() -> set[Key]:
    """Every text that code and templates ask to have translated."""
    files = sorted(PACKAGE.rglob("*"))
    return {
        *(key for path in files if path.suffix == ".py" for key in in_code(path)),
        *(key for path in files if "templates" in path.parts for key in in_template(path)),
    }


def in_code(path: Path) -> Iterator[Key]:
    with path.open("rb") as file:
        for _line, texts, _comments, context in extract("python", file, KEYWORDS):
            yield context or "", _first(texts)


def in_template(path: Path) -> Iterator[Key]:
    if not path.is_file():
        return
    for kind, arguments in CALL.findall(templatize(path.read_text(), origin=str(path))):
        texts = [ast.literal_eval(text) for text in re.findall(STRING, arguments)]
        yield (texts[0], texts[1]) if "p" in kind else ("", texts[0])


def messages(catalog: Catalog) -> dict[Key, Message]:
    return {(_context(one), _first(one.id)): one for one in catalog if one.id}


def catalog(language: str, suffix: str = "po") -> Catalog:
    path = PACKAGE / "locale" / language / "LC_MESSAGES" / f"django.{suffix}"
    with path.open("rb") as file:
        return read_mo(file) if suffix == "mo" else read_po(file)


def _first(texts: Any) -> str:
    return texts if isinstance(texts, str) else str(texts[0])


def _context(message: Message) -> str:
    context = message.context or ""  # bytes where it comes from a compiled file
    return context.decode() if isinstance(context, bytes) else context


def _strings(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string)


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_text_is_translated(language: str) -> None:
    known = messages(catalog(language))
    texts = written()
    assert len(texts) > 100
    missing = {key for key in texts if key not in known or not all(_strings(known[key]))}
    assert missing == set()


def test_nothing_is_guessed_or_left_over(language: str) -> None:
    found = catalog(language)
    assert [one.id for one in found if one.id and one.fuzzy] == []
    assert set(messages(found)) - written() == set()


def test_translations_keep_the_places_where_values_go(language: str) -> None:
    for message in messages(catalog(language)).values():
        wanted = [set(PLACEHOLDER.findall(text)) for text in _as_list(message.id)]
        for text in _strings(message):
            found = set(PLACEHOLDER.findall(text))
            assert found in wanted, (message.id, text)


def test_the_compiled_file_says_what_the_readable_one_says(language: str) -> None:
    readable, compiled = (messages(catalog(language, suffix)) for suffix in ("po", "mo"))
    assert {key: _strings(one) for key, one in compiled.items()} == {
        key: _strings(one) for key, one in readable.items()
    }


def _as_list(texts: Any) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)
