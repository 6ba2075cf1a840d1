"""Hiding secrets before anything a task carries is shown, logged or sent to a person."""

from __future__ import annotations

import re
from typing import Any

MASK = "[redacted]"
#: In characters: what ``redact_text`` takes for one secret, with its key.
LONGEST_SECRET = 5000

_SECRET_WORD = (
    r"(?:passw(?:or)?d|passwd|passphrase|pwd|secret|token|authorization|api[_\- ]?key"
    r"|private[_\- ]?key|(?<!dis)(?<!post)card(?!inal)|(?<![a-z])iban|(?-i:(?<=[a-z])I(?:BAN|ban))"
    r"|cvv|cvc)"
)
_SECRET_KEY = re.compile(_SECRET_WORD, re.IGNORECASE)
# password=, "api_key": (also as JSON inside JSON, or inside an address), card number:, token ==
_SECRET_PAIR = (
    rf"{_SECRET_WORD}[\w-]{{0,40}}(?:\s(?:number|no|nr)\.?)?"
    r"\\{0,7}(?:[\"']|%22)?\s{0,5}(?:=>|[:!]?={1,3}|:|%3[AD])\s{0,5}"
)

# Every repetition has an upper limit: a megabyte of hostile text must not cost a minute.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # <password>...</password>
    (
        re.compile(
            rf"(<[\w.:-]{{0,40}}{_SECRET_WORD}[\w.-]{{0,40}}(?:\s[^<>]{{0,500}})?>)"
            r"[^<]{1,4000}(?=</)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # Authorization: ApiKey ..., whatever the scheme is called
    (
        re.compile(
            r"(authorization\s{0,5}[=:]\s{0,5})[a-z][\w-]{1,40}\s{1,5}(?=\S{0,80}[\d=])"
            r"[^\s,;&)}\]\"']{4,4000}",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # password=..., "api_key": "...", Authorization: Basic ..., card number: 4111 1111 1111 1111.
    # Quotes may be those of JSON inside JSON, and are open where somebody has cut the text.
    (
        re.compile(
            rf"({_SECRET_PAIR})"
            r"(?:(?:Bearer|Basic|Digest|Token)\s{1,5})?"
            r"(?:\[redacted\]|[a-z]?\"(?:[^\"\\]|\\.){0,4000}(?:\"|\\?\Z)"
            r"|[a-z]?'(?:[^'\\]|\\.){0,4000}(?:'|\\?\Z)"
            r"|(?P<quote>\\{1,7}[\"'])(?:(?!(?P=quote))[\s\S]){0,4000}(?:(?P=quote)|\Z)"
            r"|(?:[A-Z]{2}\d{2}|\d{4})(?:[ -](?=[A-Z]{0,3}\d|[A-Z]{4}\s)[A-Z\d]{1,6}\b){2,8}"
            r"|(?![\"']?\s)[^\s,;&)}\]]{1,4000})",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    # scheme://user:password@host
    (re.compile(r"(://[^\s:/@\"'<>]{0,200}):[^\s/\"'<>]{1,500}@"), rf"\1:{MASK}@"),
    (
        re.compile(r"\b(Bearer)\s{1,9}[A-Za-z0-9._~+/=-]{8,4000}", re.IGNORECASE),
        rf"\1 {MASK}",
    ),
    (
        re.compile(r"\b(Basic|Token)\s{1,9}(?=\S{0,80}[\d=])[A-Za-z0-9._~+/=-]{8,4000}"),
        rf"\1 {MASK}",
    ),
    # A JSON web token, and keys that name their issuer.
    (re.compile(r"\beyJ[\w-]{8,4000}\.[\w-]{8,4000}(?:\.[\w-]{0,4000})?"), MASK),
    (re.compile(r"\b(?:sk|rk)[_-](?:live_|test_|proj-)?[A-Za-z0-9]{16,200}"), MASK),
    (re.compile(r"\b(?:gh[opsur]_|xox[a-z]-)[\w-]{10,200}"), MASK),
)

# "card": {"number": ...: no pattern finds the end of it. But of code in a traceback no more than
# its line: cards = [
_SECRET_OPENS = re.compile(
    rf"{_SECRET_PAIR}(?!\[redacted\])(?=[\[{{(](?:\w|\s{{0,80}}[\d\"'\\\[{{(-]))", re.IGNORECASE
)
_LONGEST_OPEN = 4000
# Brackets, and texts in quotes, also of JSON inside JSON: brackets in there mean nothing.
_BRACKETS = re.compile(
    r"(?P<quote>\\{1,7}[\"'])(?:(?:(?!(?P=quote))[\s\S])*(?P=quote))?"
    r"|\"(?:[^\"\\]|\\.)*\"|(?<!\w\w)'(?:[^'\\]|\\.)*'|(?P<open>[\[{(])|(?P<close>[\]})])"
)


def redact(value: Any) -> Any:
    """A copy of JSON-like ``value`` in which secrets are replaced by ``MASK``.

    Hidden are the values of keys that sound secret, and texts, keys too, as ``redact_text`` hides
    them.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {redact(key): _redact_item(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def redact_text(text: str) -> str:
    """``text`` without bearer tokens, addresses with a password, and ``password=...`` pairs."""
    text = _without_open_secrets(text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redacted_beginning(text: str, length: int) -> str:
    """The beginning of ``text`` redacted, as a whole or of more than ``length`` characters, so that
    cutting it there shows no half secret. Costs no more for a longer text."""
    enough = length + 4 * LONGEST_SECRET
    if len(text) <= enough:
        return redact_text(text)
    return redact_text(text[:enough])[:-LONGEST_SECRET]


def redacted_end(text: str, length: int) -> str:
    """As ``redacted_beginning``, of the end."""
    enough = length + 4 * LONGEST_SECRET
    if len(text) <= enough:
        return redact_text(text)
    return redact_text(text[-enough:])[LONGEST_SECRET:]


def is_secret_key(key: object) -> bool:
    """Whether what stands under ``key`` is hidden."""
    return _SECRET_KEY.search(str(key)) is not None


def _without_open_secrets(text: str) -> str:
    """``text`` without the objects and lists that stand after keys which sound secret."""
    kept, end = [], 0
    while found := _SECRET_OPENS.search(text, end):
        kept += [text[end : found.end()], MASK]
        end = _closed(text, found.end())
    return "".join([*kept, text[end:]])


def _closed(text: str, start: int) -> int:
    """Where the bracket at ``start`` is closed, or how far it may reach: somebody cut the text."""
    end = min(len(text), start + _LONGEST_OPEN)
    depth = 0
    for found in _BRACKETS.finditer(text, start, end):
        depth += (found["open"] is not None) - (found["close"] is not None)
        if depth == 0:
            return found.end()
    return end


def _redact_item(key: object, item: Any) -> Any:
    # That a secret is missing is no secret, and often the bug somebody looks for.
    if is_secret_key(key) and item not in (None, "", [], {}):
        return MASK
    return redact(item)
