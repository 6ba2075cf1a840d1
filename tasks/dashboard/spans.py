"""Times in a search: ``>2026-11-20``, ``2026-11-20..2026-11-22``, ``24h``, ``<7d``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

_RELATIVE = re.compile(r"(\d{1,5})(min|h|d|w)")
#: A day more, or a zone, must not lead out of the calendar.
_FIRST_YEAR, _LAST_YEAR = 1000, 9998
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class NoSpan(ValueError):
    """A text that names no time; the message says so."""


@dataclass(frozen=True)
class Span:
    """From ``since`` until before ``until``; None: without end. ``words`` follow "created"."""

    since: datetime | None
    until: datetime | None
    words: str


def span(text: str, now: datetime) -> Span:
    """What ``text`` names, seen from ``now``. Raises NoSpan."""
    sign = next((sign for sign in _SIGNS if text.startswith(sign)), "")
    ago = _RELATIVE.fullmatch(text.removeprefix(sign).lower())
    if ago:
        named = _longer_ago if sign.startswith("<") else _last
        return named(int(ago[1]), ago[2], now)
    if ".." in text:
        first, last = text.split("..", 1)
        since, until = _moment(first, end=False), _moment(last, end=True)
        words = _("between %(first)s and %(last)s") % {"first": _shown(first), "last": _shown(last)}
        return Span(since, until, words)
    if sign:
        return _SIGNS[sign](text.removeprefix(sign))
    words = _("on %(time)s") if _is_day(text) else _("at %(time)s")
    end = _moment(text, end=True) if _is_day(text) else _moment(text) + timedelta(minutes=1)
    return Span(_moment(text), end, words % {"time": _shown(text)})


def moment(text: str) -> datetime | None:
    """The time that ``text`` names ("2026-11-20T09:00"), or None."""
    try:
        return _moment(text)
    except NoSpan:
        return None


def _last(count: int, unit: str, now: datetime) -> Span:
    words = {
        "min": ngettext("in the last minute", "in the last %(n)d minutes", count),
        "h": ngettext("in the last hour", "in the last %(n)d hours", count),
        "d": ngettext("in the last day", "in the last %(n)d days", count),
        "w": ngettext("in the last week", "in the last %(n)d weeks", count),
    }[unit]
    return Span(_ago(count, unit, now), None, words % {"n": count})


def _longer_ago(count: int, unit: str, now: datetime) -> Span:
    words = {
        "min": ngettext("more than a minute ago", "more than %(n)d minutes ago", count),
        "h": ngettext("more than an hour ago", "more than %(n)d hours ago", count),
        "d": ngettext("more than a day ago", "more than %(n)d days ago", count),
        "w": ngettext("more than a week ago", "more than %(n)d weeks ago", count),
    }[unit]
    return Span(None, _ago(count, unit, now), words % {"n": count})


def _ago(count: int, unit: str, now: datetime) -> datetime:
    try:
        return now - timedelta(**{_UNITS[unit]: count})
    except OverflowError:
        raise NoSpan(_wrong(f"{count}{unit}")) from None


def _after(text: str) -> Span:
    # "After the 20th" begins when that day is over.
    return Span(_moment(text, end=True), None, _("after %(time)s") % {"time": _shown(text)})


def _from(text: str) -> Span:
    return Span(_moment(text), None, _("since %(time)s") % {"time": _shown(text)})


def _before(text: str) -> Span:
    return Span(None, _moment(text), _("before %(time)s") % {"time": _shown(text)})


def _up_to(text: str) -> Span:
    return Span(None, _moment(text, end=True), _("up to %(time)s") % {"time": _shown(text)})


_SIGNS = {">=": _from, "<=": _up_to, ">": _after, "<": _before}


def _is_day(text: str) -> bool:
    return "T" not in text and ":" not in text


def _moment(text: str, *, end: bool = False) -> datetime:
    """``text`` as a time of the viewer's zone; of a day the beginning, or its ``end``."""
    day, time = _read(text)
    if time is not None:
        return time
    if day is None:
        raise NoSpan(_wrong(text))
    try:
        midnight = datetime.combine(day + timedelta(days=1) if end else day, datetime.min.time())
        return _aware(midnight)
    except OverflowError:
        raise NoSpan(_wrong(text)) from None


def _read(text: str) -> tuple[date | None, datetime | None]:
    try:
        time = parse_datetime(text) if not _is_day(text) else None
        return (parse_date(text) if _is_day(text) else None), (time and _aware(time))
    except (ValueError, OverflowError):
        raise NoSpan(_wrong(text)) from None


def _aware(time: datetime) -> datetime:
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise OverflowError
    if not settings.USE_TZ:
        return timezone.make_naive(time) if timezone.is_aware(time) else time
    return timezone.make_aware(time) if timezone.is_naive(time) else time


def _shown(text: str) -> str:
    day, time = _read(text)
    if day is not None:
        return date_format(day, "DATE_FORMAT")
    if time is None:
        raise NoSpan(_wrong(text))
    local = timezone.localtime(time) if timezone.is_aware(time) else time
    shown = f"{date_format(local, 'DATE_FORMAT')}, {local:%H:%M}"
    # Those beside it are local to the viewer, who may be elsewhere.
    return f"{shown} {local.tzname()}" if local.tzname() else shown


def _wrong(text: str) -> str:
    return _(
        "“%(text)s” is no time. Write a day (2026-11-20), a time (2026-11-20T09:00), or how long "
        "ago (30min, 24h, 7d); with >, <, >= or <= before it, or two days with “..” between."
    ) % {"text": text}
