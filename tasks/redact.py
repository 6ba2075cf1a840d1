"""Hiding secrets before anything a task carries is shown, logged or sent to a person."""

from __future__ import annotations

import re
from typing import Any

MASK = "[redacted]"
#: In characters: what ``redact_text`` takes for one secret, with its key.
LONGEST_SECRET = 5000

_SECRET_WORD = (
    r"(?:passw(?:or)?d|passwd|passphrase|pwd|secret|token|authorization|api[_\- ]?key"
    r"|private[_\- ]?key|(?<!dis)(?<!post)card(?!inal)|(?<![a-z])iban|cvv|cvc)"
)
_SECRET_KEY = re.compile(_SECRET_WORD, re.IGNORECASE)

# Every repetition has an upper limit: a megabyte of hostile text must not cost a minute.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # password=..., "api_key": "...", Authorization: Basic ...
    (
        re.compile(
            rf"({_SECRET_WORD}[\w-]{{0,40}}\\?[\"']?\s{{0,5}}(?:=>|[=:])\s{{0,5}})"
            r"(?:(?:Bearer|Basic|Digest|Token)\s{1,5})?"
            r"(?:\[redacted\]|[a-z]?\"(?:[^\"\\]|\\.){0,4000}\"|[a-z]?'(?:[^'\\]|\\.){0,4000}'"
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


def redact(value: Any) -> Any:
    """A copy of JSON-like ``value`` in which secrets are replaced by ``MASK``.

    Hidden are the values of keys that sound secret, and texts as ``redact_text`` hides them.
    """
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {key: _redact_item(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return value


def redact_text(text: str) -> str:
    """``text`` without bearer tokens, addresses with a password, and ``password=...`` pairs."""
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


def _redact_item(key: object, item: Any) -> Any:
    # That a secret is missing is no secret, and often the bug somebody looks for.
    if is_secret_key(key) and item not in (None, "", [], {}):
        return MASK
    return redact(item)
