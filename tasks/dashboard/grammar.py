"""The search of the list as text, ``state:failed error:"mailbox full"``, split into terms.

Knows nothing of the database; what the terms mean stands in ``tasks.dashboard.terms``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from django.utils.translation import gettext as _

#: What may stand before a colon; ``data.`` is followed by the keys to look under.
KEYS = ("state", "queue", "name", "record", "error", "data", "created", "worker", "incident", "id")
#: What people write for them.
_ALIASES = {
    "type": "name",
    "task": "name",
    "status": "state",
    "lane": "queue",
    "reason": "error",
    "message": "error",
    "exception": "error",
    "payload": "data",
    "date": "created",
    "time": "created",
    "host": "worker",
    "order": "record",
    "number": "id",
}
#: What other searches write between two parts.
_JOINTS = {"AND": "AND", "UND": "AND", "ET": "AND", "OR": "OR", "ODER": "OR", "OU": "OR"}
LONGEST = 1000
MOST_TERMS = 20

_TOKEN = re.compile(r"""(?P<key>-?[A-Za-z][\w.-]*:)?(?P<value>"(?:[^"\\]|\\.)*"|[^\s"]\S*)?""")
_DATA_KEY = re.compile(r"[\w-]+(\.[\w-]+)*")


@dataclass(frozen=True)
class Term:
    """One part of a search. ``key`` is one of ``KEYS``, or empty for free words.

    ``path`` is what follows ``data.``.
    """

    key: str
    value: str
    path: str = ""

    def __str__(self) -> str:
        if not self.key:
            joints = (word for word in self.value.split() if word.isupper() and is_joint(word))
            is_text = re.search('[:"]', self.value) or any(joints)
            return _in_quotes(self.value) if is_text else self.value
        name = f"data.{self.path}" if self.key == "data" else self.key
        return f"{name}:{quoted(self.value)}"


@dataclass(frozen=True)
class Wrong:
    """A part that means nothing, and a sentence that says so. ``instead``: whole searches."""

    text: str
    why: str
    instead: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Token:
    key: str
    value: str
    is_quoted: bool = False

    def __str__(self) -> str:
        return str(Term("", self.value)) if not self.key else f"{self.key}:{quoted(self.value)}"


def parse(text: str) -> tuple[list[Term], list[Wrong]]:
    """The terms of ``text`` in order, free words as one last term; and what could not be read."""
    terms: list[Term] = []
    wrong: list[Wrong] = []
    free: list[str] = []
    tokens = list(_tokens(text[:LONGEST].replace("\x00", "")))
    joints = [_joint(tokens, place) for place in range(len(tokens))]
    for token, joint in zip(tokens, joints, strict=True):
        if joint:
            continue
        if not token.key:
            free.append(token.value)
            continue
        read = _term(token.key, token.value)
        if isinstance(read, Term):
            terms.append(read)
        else:
            wrong.append(read)
    if "OR" in joints:
        wrong.append(_alternatives(text, tokens, joints))
    if free:
        terms.append(Term("", " ".join(" ".join(free).split())))
    if len(text) > LONGEST or len(terms) > MOST_TERMS:
        wrong.append(Wrong(text, _("This search is too long: leave something out.")))
    return terms, wrong


def unparse(terms: Iterable[Term]) -> str:
    """The text that ``parse`` reads as ``terms``."""
    return " ".join(map(str, terms))


def quoted(value: str) -> str:
    """``value``, in quotes where it must be."""
    return _in_quotes(value) if not value or re.search(r'[\s"]', value) else value


def _in_quotes(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def replaced(text: str, key: str, value: str | None) -> str:
    """``text`` with ``key:value`` in place of every other ``key:``; None takes it away."""
    terms = [term for term in parse(text)[0] if term.key != key]
    if value is not None:
        terms.insert(0, Term(key, value))
    return unparse(terms)


def value_of(terms: Iterable[Term], key: str) -> str:
    """The value of the first term with this key, or nothing."""
    return next((term.value for term in terms if term.key == key), "")


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, or nothing."""
    return next(iter(get_close_matches(word.lower(), list(known), 1, 0.6)), "")


def is_joint(word: str) -> bool:
    """Whether it would say how two parts of a search are joined."""
    return word.upper() in _JOINTS


def _joint(tokens: Sequence[_Token], place: int) -> str:
    """AND or OR, where a token says no more than how those beside it are joined."""
    token, beside = tokens[place], [*tokens[max(place - 1, 0) : place], *tokens[place + 1 :][:1]]
    joint = _JOINTS.get(token.value.upper(), "")
    if not joint or token.key or token.is_quoted or len(beside) < 2:
        return ""
    is_meant = any if token.value.isupper() else all
    return joint if is_meant(one.key for one in beside) else ""


def _alternatives(text: str, tokens: Sequence[_Token], joints: Sequence[str]) -> Wrong:
    searches: list[list[str]] = [[]]
    for token, joint in zip(tokens, joints, strict=True):
        if joint == "OR":
            searches.append([])
        elif not joint:
            searches[-1].append(str(token))
    why = _("This search cannot say “or”: it shows tasks for which all of it is true.")
    return Wrong(text, why, tuple(map(" ".join, searches)))


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        found = _TOKEN.match(text, position)
        if found is None or found.end() == position:
            # A quotation mark that nothing closes: all that follows stands in it.
            yield _Token("", text[position + 1 :], is_quoted=True)
            return
        key, value = (found["key"] or "")[:-1], found["value"] or ""
        opened = found["value"] is None and text[found.end() : found.end() + 1] == '"'
        if opened:
            yield _Token(key, text[found.end() + 1 :], is_quoted=True)
            return
        yield _Token(key, _unquoted(value), is_quoted=value.startswith('"'))
        position = found.end()


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    return value


def _term(key: str, value: str) -> Term | Wrong:
    name, _dot, path = key.partition(".")
    name = name.lower()
    shown = f"{key}:{value}"
    if name not in KEYS or (path and name != "data") or (name == "data" and not path):
        return Wrong(shown, _unknown(key, name))
    if not value.strip():
        text = _("After “%(key)s:” something is missing, without a space between them.")
        return Wrong(shown, text % {"key": key})
    if path and not _DATA_KEY.fullmatch(path):
        text = _("“%(key)s” names no place in the data: write it like data.customer.id:17.")
        return Wrong(shown, text % {"key": key})
    return Term(name, value.strip(), path)


def _unknown(key: str, name: str) -> str:
    if name == "data":
        return _("“data” needs to know where to look: write it like data.customer.id:17.")
    near = _ALIASES.get(name) or nearest(name, KEYS)
    values = {"key": key, "near": near, "known": ", ".join(f"{one}:" for one in KEYS)}
    if near:
        return _("This search knows no “%(key)s:”. Did you mean “%(near)s:”?") % values
    return (
        _(
            "This search knows no “%(key)s:”. It knows %(known)s. If it is part of what you look "
            "for, put it in quotation marks."
        )
        % values
    )
