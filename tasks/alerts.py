"""Alerts: what operations must hear of though nobody looks at a page, at most once an hour each.

``watch`` may be called by any number of processes: workers, the web process, a command from cron.
One of them sends, so alerts go out although the queue stands or no worker lives.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import router
from django.db.models import F, Q, QuerySet
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks import signals
from tasks.conf import aftersave_settings
from tasks.figures import oldest_due
from tasks.handlers import OWN
from tasks.models import Alert, Incident, Queue, Task, Worker
from tasks.models.addresses import absolute
from tasks.serving import seconds_ago, serving, worker_command

logger = logging.getLogger(__name__)

ONCE_IN = timedelta(hours=1)
#: A mail that could not be sent is tried again after so long, by whoever watches then.
TRY_AGAIN = timedelta(minutes=1)
#: Who said that it sends and then was not heard of is taken for dead.
GIVE_UP = timedelta(minutes=5)
#: What happened longer ago is no news any more.
NEWS = timedelta(days=1)
#: A queue may be without a worker for so many seconds: a restart is no alert.
UNSERVED = 60.0
#: Seconds for each answer of a mail server, where EMAIL_TIMEOUT says nothing.
MAIL_TIMEOUT = 20.0
#: So many causes of each kind are named in one mail; of the others it says how many there are.
MOST_NAMED = 20
_KEY_LENGTH = 200


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why to alert somebody. It carries nothing of a task: no data, no message of an error.

    ``key`` is equal for what is one cause. ``since``: when it happened; None for what lasts and is
    told anew each hour. ``page`` and ``arguments``: where it is seen, below the list of tasks;
    ``page`` is empty where no page shows it.
    """

    key: str
    title: str
    text: str
    page: str = "overview"
    arguments: dict[str, Any] = field(default_factory=dict)
    since: datetime | None = None

    @property
    def link(self) -> str:
        """The address of the page, from AFTERSAVE["BASE_URL"]; empty without one."""
        return page_link(self.page, **self.arguments)


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


def new_incidents(using: str) -> list[Cause]:
    """Incidents that were opened or reopened, and that nobody has taken, muted or resolved."""
    cutoff = timezone.now() - NEWS
    news = Q(reopened_at__gte=cutoff) | Q(first_seen_at__gte=cutoff)
    incidents = Incident.objects.using(using).filter(news, status=Incident.Status.OPEN)
    return [_of_incident(incident) for incident in incidents.order_by("id")]


def _of_incident(incident: Incident) -> Cause:
    again = incident.reopened_at is not None
    release = incident.reopened_release if again else incident.first_release
    title = _("%(name)s fails again") if again else _("%(name)s fails")
    text = ngettext(
        "%(count)s task has failed with %(exception)s.",
        "%(count)s tasks have failed with %(exception)s.",
        incident.failures,
    ) % {"count": incident.failures, "exception": incident.exception.rpartition(".")[2]}
    if release:
        text += " " + _("The release is %(release)s.") % {"release": release}
    return Cause(
        key=f"incident:{incident.pk}",
        title=title % {"name": incident.name},
        text=text,
        page="incident",
        arguments={"incident_id": incident.pk},
        since=incident.reopened_at or incident.first_seen_at,
    )


def standing_queues(using: str) -> list[Cause]:
    """Queues, paused ones apart, whose oldest due task is older than ALERT_OLDEST_DUE says, and
    those with due tasks and no living worker that serves them."""
    ages = _ages(using)
    return [*_overdue_queues(ages), *_unserved_queues(using, ages)]


def _overdue_queues(ages: Mapping[str, float]) -> list[Cause]:
    causes = []
    for queue, age in ages.items():
        limit = longest_due(queue)
        if limit is not None and age > limit:
            causes.append(_overdue(queue, age, limit))
    return causes


def longest_due(queue: str) -> float | None:
    """For how many seconds a task may be due in the queue; None: as long as it takes."""
    limits = aftersave_settings.ALERT_OLDEST_DUE
    limit: float | None = limits.get(queue, limits.get("*")) if isinstance(limits, dict) else limits
    return limit


def _overdue(queue: str, age: float, limit: float) -> Cause:
    return Cause(
        key=_key("overdue", queue),
        title=_("Queue %(queue)s is late") % {"queue": queue},
        text=_("Its oldest due task has waited for %(age)s, the limit is %(limit)s.")
        % {"age": _duration(age), "limit": _duration(limit)},
    )


def _unserved_queues(using: str, ages: Mapping[str, float]) -> list[Cause]:
    waiting = {queue: age for queue, age in ages.items() if age > UNSERVED}
    if not waiting:
        return []
    served = serving(using)
    return [
        Cause(
            key=_key("unserved", queue),
            title=_("Queue %(queue)s has no worker") % {"queue": queue},
            text=_("Its oldest due task has waited for %(age)s. This starts a worker: %(command)s")
            % {"age": _duration(age), "command": worker_command(queue)},
        )
        for queue, age in waiting.items()
        if not served.serves(queue)
    ]


def lost_workers(using: str) -> list[Cause]:
    """Hosts on which a worker process ended without saying so."""
    cutoff = timezone.now() - NEWS
    # Others find out within HEARTBEAT_LIMIT, unless it was the last one.
    unheard = seconds_ago(aftersave_settings.HEARTBEAT_LIMIT + UNSERVED)
    silent = Q(heartbeat_at__gte=cutoff, heartbeat_at__lt=unheard, lost_at=None, stopped_at=None)
    hosts: dict[str, list[Worker]] = defaultdict(list)
    for worker in Worker.objects.using(using).filter(Q(lost_at__gte=cutoff) | silent):
        hosts[worker.host].append(worker)
    return [_lost(host, sorted(hosts[host], key=_lost_since)) for host in sorted(hosts)]


def _lost_since(worker: Worker) -> datetime:
    # The same whether somebody has found out yet or not: it is told of once.
    silent = worker.heartbeat_at + timedelta(seconds=aftersave_settings.HEARTBEAT_LIMIT)
    return min(silent, worker.lost_at) if worker.lost_at else silent


def _lost(host: str, workers: Sequence[Worker]) -> Cause:
    found = [worker for worker in workers if worker.lost_at]
    silent = [worker for worker in workers if not worker.lost_at]
    texts = []
    if found:
        text = ngettext(
            "%(count)s worker process was lost there within a day, the last with the pid %(pid)s. "
            "Its tasks went back to their queues.",
            "%(count)s worker processes were lost there within a day, the last with the pid "
            "%(pid)s. Their tasks went back to their queues.",
            len(found),
        )
        texts.append(text % {"count": len(found), "pid": found[-1].pid})
    if silent:
        text = ngettext(
            "%(count)s worker process there is silent, with the pid %(pid)s, and no other is left "
            "that would take its tasks. Start a worker.",
            "%(count)s worker processes there are silent, the last with the pid %(pid)s, and no "
            "other is left that would take their tasks. Start a worker.",
            len(silent),
        )
        texts.append(text % {"count": len(silent), "pid": silent[-1].pid})
    return Cause(
        key=_key("worker-lost", host),
        title=_("Worker lost on %(host)s") % {"host": host},
        text=" ".join(texts),
        since=_lost_since(workers[-1]),
    )


LOOKS: tuple[Callable[[str], list[Cause]], ...] = (
    new_incidents,
    standing_queues,
    lost_workers,
)


def page_link(page: str, **arguments: Any) -> str:
    """The address of a dashboard page for people outside: from AFTERSAVE["BASE_URL"], or empty."""
    if not (page and aftersave_settings.BASE_URL):
        return ""
    try:
        return absolute(reverse(f"admin:tasks_task_{page}", kwargs=arguments or None))
    except NoReverseMatch:
        return ""  # a host without our pages


def recipients() -> list[str]:
    """Who gets the mails: ALERT_TO, else the addresses in ADMINS."""
    if aftersave_settings.ALERT_TO is not None:
        return list(aftersave_settings.ALERT_TO)
    # Pairs of name and address, or since Django 6 addresses alone.
    return [entry if isinstance(entry, str) else entry[1] for entry in settings.ADMINS]


def _ages(using: str) -> dict[str, float]:
    """Seconds since when the oldest due task of each queue that is not paused could have run."""
    paused = Queue.objects.using(using).filter(paused_at__isnull=False).exclude(name=OWN)
    standing = set(paused.values_list("name", flat=True))
    now = timezone.now()
    return {
        queue: (now - since).total_seconds()
        for queue, since in sorted(oldest_due(using).items())
        if queue not in standing
    }


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


def _key(kind: str, name: str) -> str:
    return f"{kind}:{name}"[:_KEY_LENGTH]


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return ngettext("%(n)s second", "%(n)s seconds", round(seconds)) % {"n": round(seconds)}
    if minutes < 120:
        return ngettext("%(n)s minute", "%(n)s minutes", minutes) % {"n": minutes}
    whole = round(seconds / 3600)
    return ngettext("%(n)s hour", "%(n)s hours", whole) % {"n": whole}
