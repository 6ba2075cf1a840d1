"""Alerts: what operations must hear of though nobody looks at a page, at most once an hour each.

``watch`` may be called by any number of processes: workers, the web process, a command from cron.
One of them sends, so alerts go out although the queue stands or no worker lives.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import router
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks import signals
from tasks.causes import LOOKS, Cause, page_link
from tasks.conf import aftersave_settings
from tasks.models import Alert, Task

logger = logging.getLogger(__name__)

ONCE_IN = timedelta(hours=1)
#: A mail that could not be sent is tried again after so long, by whoever watches then.
TRY_AGAIN = timedelta(minutes=1)
#: Who said that it sends and then was not heard of is taken for dead.
GIVE_UP = timedelta(minutes=5)
#: Seconds for each answer of a mail server, where EMAIL_TIMEOUT says nothing.
MAIL_TIMEOUT = 20.0
#: So many causes of each kind are named in one mail; of the others it says how many there are.
MOST_NAMED = 20


def watch(using: str) -> list[Cause]:
    """Tell of every cause that nobody was told of within the hour; returns those told now.

    Sends ``alert_raised`` and one e-mail with all of them. Blocks while it talks to the mail
    server, but never raises because of that: who could not be told by mail is told a minute later.
    """
    found = _found(using)
    now = timezone.now()
    last = {alert.cause: alert for alert in _alerts_of(using, found)}
    fresh = [cause for cause in found if _claim(using, cause, last.get(cause.key), now)]
    again = [cause for cause in found if _claim_again(using, last.get(cause.key), now)]
    for cause in fresh:
        signals.alert_raised.send_robust(None, using=using, cause=cause)
    if fresh:
        # Not before it happened by another's clock, or it would be news again in an hour.
        sent_at = max([timezone.now(), *(cause.since for cause in fresh if cause.since)])
        _alerts_of(using, fresh).update(sent_at=sent_at, at=sent_at + GIVE_UP)
    told = [*fresh, *again]
    if told:
        at: Any = F("sent_at") if _mail(told) else timezone.now() + TRY_AGAIN
        _alerts_of(using, told).update(at=at)
    return told


def _found(using: str) -> list[Cause]:
    causes = [cause for look in LOOKS for cause in look(using)]
    if using == router.db_for_write(Task):
        return causes
    # The pages do not show this database: there is nothing to link to.
    return [replace(cause, page="") for cause in causes]


def _alerts_of(using: str, causes: Sequence[Cause]) -> QuerySet[Alert]:
    return Alert.objects.using(using).filter(cause__in=[cause.key for cause in causes])


def recipients() -> list[str]:
    """Who gets the mails: ALERT_TO, else the addresses in ADMINS."""
    if aftersave_settings.ALERT_TO is not None:
        return list(aftersave_settings.ALERT_TO)
    # Pairs of name and address, or since Django 6 addresses alone.
    return [entry if isinstance(entry, str) else entry[1] for entry in settings.ADMINS]


def _claim(using: str, cause: Cause, last: Alert | None, now: datetime) -> bool:
    """Whether it is for us to tell of ``cause``, for the first time in an hour."""
    alerts = Alert.objects.using(using)
    if last is None:
        return alerts.get_or_create(cause=cause.key, defaults={"at": now})[1]
    sent = last.sent_at
    if sent is None:
        is_open = last.at <= now - GIVE_UP
    else:
        is_open = sent <= now - ONCE_IN and not (cause.since and sent >= cause.since)
    return is_open and _as_found(using, last).update(at=now, sent_at=None) == 1


def _claim_again(using: str, last: Alert | None, now: datetime) -> bool:
    """Whether the mail about it is still to be sent, and it is for us to do that."""
    if last is None or last.sent_at is None or not last.sent_at < last.at <= now:
        return False
    return _as_found(using, last).update(at=now + GIVE_UP) == 1


def _as_found(using: str, alert: Alert) -> QuerySet[Alert]:
    # Of those who found it the same one goes on.
    return Alert.objects.using(using).filter(pk=alert.pk, sent_at=alert.sent_at, at=alert.at)


def _mail(causes: Sequence[Cause]) -> bool:
    """Send one mail about ``causes``; False if the server did not take it."""
    to = recipients()
    if not to:
        return True
    try:
        _message(causes, to).send()
    except Exception as error:
        logger.warning("The mail with %d alerts could not be sent: %s", len(causes), error)
        return False
    return True


def _message(causes: Sequence[Cause], to: list[str]) -> EmailMessage:
    subject = causes[0].title
    if len(causes) > 1:
        subject = _("%(title)s, and %(more)s more") % {"title": subject, "more": len(causes) - 1}
    parts = ["\n".join(filter(None, (c.title, c.text, c.link))) for c in _named(causes)]
    if len(parts) < len(causes):
        left = len(causes) - len(parts)
        text = ngettext(
            "%(more)s more is not named here.", "%(more)s more are not named here.", left
        )
        parts.append("\n".join(filter(None, (text % {"more": left}, page_link("overview")))))
    connection: Any = get_connection()
    if getattr(connection, "timeout", 0) is None:
        connection.timeout = MAIL_TIMEOUT
    return EmailMessage(
        subject=f"{settings.EMAIL_SUBJECT_PREFIX}{' '.join(subject.split())}",
        body="\n\n".join(parts) + "\n",
        from_email=settings.SERVER_EMAIL,
        to=to,
        connection=connection,
    )


def _named(causes: Sequence[Cause]) -> Iterator[Cause]:
    """At most MOST_NAMED of each kind: after a bad release hundreds of names may fail anew."""
    kinds: Counter[str] = Counter()
    for cause in causes:
        kind = cause.key.partition(":")[0]
        kinds[kind] += 1
        if kinds[kind] <= MOST_NAMED:
            yield cause
