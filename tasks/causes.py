"""What operations should be told of now: each cause in words, with the page that shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from tasks.conf import aftersave_settings
from tasks.figures import oldest_due
from tasks.models import Incident, Queue, Worker
from tasks.models.addresses import absolute
from tasks.names import OWN
from tasks.serving import seconds_ago, serving, worker_command

#: What happened longer ago is no news any more.
NEWS = timedelta(days=1)
#: A queue may be without a worker for so many seconds: a restart is no alert.
UNSERVED = 60.0
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
            % {"age": _duration(age), "command": worker_command(queue, using)},
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
