"""Text and JSON that every database takes: handlers' is cleaned, what hosts pass refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tasks.conf import aftersave_settings
from tasks.exceptions import DataTooLarge, InvalidData
from tasks.redact import redacted_beginning

#: Bytes of a reason that are kept.
LONGEST_REASON = 4000
_SURROGATES = re.compile("[\ud800-\udfff]")
_SUSPECT_ESCAPE = re.compile(r"\\u(?:0000|d[89a-f])")
# MariaDB refuses JSON nested deeper than 32, and one level is the document itself.
_MAX_DEPTH = 31
# In bits; Python refuses to write more than 4,300 digits.
_LONGEST_INTEGER = 13_288


def clean(text: str, limit: int) -> str:
    """``text`` without NUL and lone surrogates, cut to ``limit`` bytes of UTF-8."""
    text = _SURROGATES.sub("\ufffd", text.replace("\x00", "\ufffd"))
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: max(0, limit - 4)].decode(errors="ignore") + "…"


def cut(text: str, limit: int) -> str:
    """``text`` as ``clean`` cuts it, without its secrets if it is cut: half of one is not known
    for a secret any more by whoever hides them later.
    """
    if len(text) <= limit:
        whole = clean(text, 4 * limit)
        if len(whole.encode()) <= limit:
            return whole
    return clean(redacted_beginning(text, limit), limit)


def clean_line(text: str) -> str:
    """One log line, within ``AFTERSAVE["LOG_LINE_LIMIT"]``."""
    return cut(text, aftersave_settings.LOG_LINE_LIMIT)


def one_line(text: str, limit: int = 300) -> str:
    """``text`` folded to one line of at most ``limit`` bytes: what ``Task.reason`` holds."""
    return cut(" ".join(text.split()), limit)


def encode_result(value: Any) -> tuple[str | None, str | None]:
    """JSON of a handler's return value, and what is wrong with it (then the JSON is None).

    NUL, lone surrogates, NaN and infinities are replaced: a finished handler is not run again
    for them.
    """
    if value is None:
        return None, None
    try:
        text = _dump(value)
        if "NaN" in text or "Infinity" in text or _SUSPECT_ESCAPE.search(text):
            text = _dump(_cleaned(json.loads(text)))
    except (TypeError, ValueError, RecursionError) as error:
        return None, f"the return value is not JSON: {one_line(str(error))}"
    if _nested_too_deep(text):
        return None, f"the return value is nested deeper than {_MAX_DEPTH} levels"
    if len(text) > aftersave_settings.RESULT_LIMIT:
        return None, f"the return value has {len(text):,} bytes of JSON, more than RESULT_LIMIT"
    return text, None


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _nested_too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") < _MAX_DEPTH:
        return False
    try:
        _check("", "", json.loads(text), _MAX_DEPTH)
    except InvalidData:
        return True
    return False


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value.replace("\x00", "\ufffd"))
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_cleaned(key): _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return value


def checked_data(name: str, data: Any) -> dict[str, Any]:
    """A copy of ``data`` as it will come back; what the caller changes later does not reach it.

    Raises InvalidData naming the path, or DataTooLarge.
    """
    if not isinstance(data, dict):
        raise InvalidData(name, "data", f"is {type(data).__name__}, it must be a dictionary")
    _check(name, "data", data, _MAX_DEPTH)
    text = json.dumps(data, ensure_ascii=False)
    size = len(text.encode())
    if size > aftersave_settings.DATA_LIMIT:
        raise DataTooLarge(name, size, aftersave_settings.DATA_LIMIT)
    copy: dict[str, Any] = json.loads(text)
    return copy


def _check(name: str, path: str, value: Any, depth: int) -> None:
    if depth == 0:
        raise InvalidData(name, path, f"is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, str):
        _check_text(name, path, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise InvalidData(name, path, f"has the key {key!r}, keys must be text")
            _check_text(name, path, key)
            _check(name, f"{path}.{key}", item, depth - 1)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(name, f"{path}[{index}]", item, depth - 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidData(name, path, f"is {value}, which JSON does not have")
    elif isinstance(value, int):
        if value.bit_length() > _LONGEST_INTEGER:
            raise InvalidData(name, path, "is an integer of more than 4,000 digits")
    elif value is not None:
        raise InvalidData(
            name, path, f"is {type(value).__name__}, which is not JSON; pass text or a number"
        )


def is_storable(text: str) -> bool:
    """Whether every database takes ``text``: no NUL, no lone surrogate."""
    return "\x00" not in text and not _SURROGATES.search(text)


def _check_text(name: str, path: str, text: str) -> None:
    if not is_storable(text):
        raise InvalidData(name, path, "contains a NUL or a lone surrogate, databases refuse both")
