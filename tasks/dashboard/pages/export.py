"""A filtered list as CSV, streamed: what the list shows, for as many rows as a sheet can hold."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.contenttypes.models import ContentType
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, StreamingHttpResponse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from tasks.dashboard.carried import Carried, carried_by
from tasks.dashboard.matching import Match, matching
from tasks.dashboard.page import download
from tasks.dashboard.viewer import Viewer
from tasks.dashboard.window import read
from tasks.models import Task
from tasks.redact import redact_text

MOST_ROWS = 100_000
CHUNK = 1_000
#: With data, of which much may be shown of each.
CHUNK_WITH_DATA = 50

COLUMNS = (
    "id", "name", "title", "state", "queue", "record", "priority", "attempts", "max_attempts",
    "created_at", "run_at", "started_at", "finished_at", "reason",
)  # fmt: skip
DATA_COLUMNS = ("data", "result")
_UNSEEN = ("context", "progress_value")

#: Excel takes a file without it for one of its own code page.
BOM = "\ufeff"
#: What a spreadsheet takes for the beginning of a formula, also in its wide forms.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n")
#: Where Excel ends a cell though it stands in quotes: in countries with a decimal comma it splits
#: lines at semicolons, and of those of a file like this the quotes mean nothing to it.
_FORMULA_WITHIN = re.compile(r"([;\t\r\n][ \"]*)(?=[=+@＝＋－＠-])")


@download("export.csv", "export", "export_task")
def export(viewer: Viewer, request: HttpRequest) -> HttpResponse:
    """The tasks that match ``?q=``, newest first."""
    match = matching(viewer, request.GET.get("q", ""))
    if match.errors:
        text = "\n".join(match.errors)
        return HttpResponseBadRequest(text, content_type="text/plain; charset=utf-8")
    lines = _lines(match, translation.get_language())
    content = _asynchronous(lines) if isinstance(request, ASGIRequest) else lines
    response: Any = StreamingHttpResponse(
        content, content_type="text/csv; charset=utf-8; header=present"
    )
    name = f"tasks-{timezone.localdate() if timezone.now().tzinfo else datetime.now().date()}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response  # type: ignore[no-any-return]


async def _asynchronous(lines: Iterator[str]) -> AsyncIterator[str]:
    following = sync_to_async(lambda: next(lines, None))
    while (chunk := await following()) is not None:
        yield chunk


def _lines(match: Match, language: str | None) -> Iterator[str]:
    """The file in pieces. Each is made in the viewer's language: the request may be over."""
    pieces = _pieces(match)
    while True:
        with translation.override(language):
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def _pieces(match: Match) -> Iterator[str]:
    columns = [*COLUMNS, *(DATA_COLUMNS if match.viewer.sees_data else ())]
    yield BOM + _written([columns])
    left, before, cut = MOST_ROWS, None, ""
    while not cut:
        found = read(match, before=before, size=min(CHUNK, left))
        yield from (_written(rows) for rows in _rows(match, found.ids))
        left -= len(found.ids)
        before = found.older
        if found.reached is not None or found.gave_up:
            cut = _("Not all tasks were looked through: add a state, a record or a time.")
        elif before is None:
            return
        elif not left:
            cut = _("There is more: only %(count)d rows are exported.") % {"count": MOST_ROWS}
    yield _written([[f"# {cut}"]])


def _rows(match: Match, ids: Iterable[int]) -> Iterator[list[list[Any]]]:
    sees_data = match.viewer.sees_data
    waiting = iter(ids)
    while chunk := list(islice(waiting, CHUNK_WITH_DATA if sees_data else CHUNK)):
        found = match.viewer.tasks.filter(pk__in=chunk).order_by()
        tasks = sorted(found.defer(*DATA_COLUMNS, *_UNSEEN), key=lambda task: -task.pk)
        loads = carried_by(tasks) if sees_data else {}
        yield [[*_row(task), *_load(loads.get(task.pk))] for task in tasks]


def _load(carried: Carried | None) -> list[str]:
    if carried is None:
        return []
    return [carried.data or "{}", carried.result or ("{}" if carried.has_result else "")]


def _row(task: Task) -> list[Any]:
    return [
        task.pk,
        task.name,
        str(task.title),
        task.shown_state,
        task.queue,
        _record(task),
        task.priority,
        task.attempts,
        task.max_attempts,
        *map(_time, (task.created_at, task.run_at, task.started_at, task.finished_at)),
        redact_text(task.reason),
    ]


def _record(task: Task) -> str:
    if task.content_type_id is None:
        return ""
    label = _("record")
    with suppress(ContentType.DoesNotExist):
        types = ContentType.objects.db_manager(task._state.db)
        found = types.get_for_id(task.content_type_id)
        label = f"{found.app_label}.{found.model}"
    return f"{label}/{task.object_id}"


def _time(moment: datetime | None) -> str:
    return moment.isoformat(timespec="milliseconds") if moment else ""


def _written(rows: Iterable[Iterable[Any]]) -> str:
    sheet = io.StringIO()
    csv.writer(sheet).writerows([_harmless(cell) for cell in row] for row in rows)
    return sheet.getvalue()


def _harmless(cell: Any) -> Any:
    """Text in which no spreadsheet finds a formula."""
    if not isinstance(cell, str):
        return cell
    cell = _FORMULA_WITHIN.sub(r"\1'", cell)
    return f"'{cell}" if cell.lstrip(" ").startswith(_FORMULA) else cell
