"""The ticket a page carries: what it shows, to whom, in which session; signed, for one minute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, tzinfo
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.core import signing
from django.http import HttpRequest
from django.urls import get_script_prefix, set_script_prefix
from django.utils import timezone, translation

if TYPE_CHECKING:
    from tasks.dashboard.page import Page

#: Seconds.
LIFETIME = 60
_SALT = "aftersave.live"


@dataclass(frozen=True)
class Ticket:
    """What a socket needs to know of the page that opens it. All values are JSON."""

    site: str
    page: str
    arguments: Mapping[str, Any]
    query: str
    user: str
    session: str  # see ``session_mark``
    language: str
    prefix: str
    zone: str | int  # its name, or minutes from UTC for one without

    def sign(self) -> str:
        """The ticket as text, which says when it was signed."""
        return signing.dumps(asdict(self), salt=_SALT, compress=True)

    @contextmanager
    def surroundings(self) -> Iterator[None]:
        """Inside, this thread has the language, time zone and path prefix of the page's request."""
        before = get_script_prefix()
        set_script_prefix(self.prefix)
        try:
            with translation.override(self.language), timezone.override(_zone(self.zone)):
                yield
        finally:
            set_script_prefix(before)


def ticket_for(page: Page, request: HttpRequest) -> Ticket:
    """The ticket of ``page`` as this request sees it."""
    return Ticket(
        site=page.viewer.site.name,
        page=page.name,
        arguments=dict(page.arguments),
        query=page.query.urlencode(),
        user=str(request.user.pk),
        session=session_mark(request),
        language=translation.get_language() or "",
        prefix=get_script_prefix(),
        zone=_current_zone(),
    )


def read_ticket(text: str, *, age: int | None = LIFETIME) -> Ticket:
    """The ticket signed at most ``age`` seconds ago.

    Raises signing.SignatureExpired, or signing.BadSignature for one that is none of ours.
    """
    return Ticket(**signing.loads(text, salt=_SALT, max_age=age))


def _current_zone() -> str | int:
    zone = timezone.get_current_timezone()
    named = getattr(zone, "key", None)
    if named:
        return str(named)
    offset = zone.utcoffset(datetime.now()) or timedelta()
    return round(offset.total_seconds() / 60)


def _zone(signed: str | int) -> tzinfo:
    if isinstance(signed, int):
        return timezone.get_fixed_timezone(signed)
    try:
        return ZoneInfo(signed)
    # The process that signed it may know more zones than this one.
    except (ValueError, OSError, ZoneInfoNotFoundError):
        return timezone.get_default_timezone()


def session_mark(request: HttpRequest) -> str:
    """Tells one session from another without telling its key."""
    key = getattr(request.session, "session_key", None) or ""
    return sha256(f"{_SALT}:{key}".encode()).hexdigest()[:32]
