"""The measured figures as tables of Markdown, and as JSON for whoever computes with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.big_tables.pages import BOUNDED, SHORT
from benchmarks.registry import DRAIN, HERE, Peer

OURS = "aftersave"
PGQUEUER = "pgqueuer"
DJANGO_TASKS_DB = "django-tasks-db"

Results = dict[str, Any]


def save(results: Results, folder: Path = HERE) -> None:
    """Replace the measured sections of `results.json` and write `results.md` from the whole."""
    path = folder / "results.json"
    known: Results = json.loads(path.read_text()) if path.exists() else {}
    known |= results
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    (folder / "results.md").write_text(markdown(known))


def markdown(results: Results) -> str:
    """All sections that were measured, in the order of the questions a reader has."""
    parts = ["# Benchmarks", _machine(results["machine"], results["versions"])]
    for name, write in SECTIONS.items():
        if name in results:
            parts.append(write(results[name]))
    return "\n\n".join(parts) + "\n"


def versions(peers: Iterable[Peer]) -> dict[str, str]:
    """The pinned version of each peer's own distribution, and of Django beside it."""
    found = {}
    for peer in peers:
        for line in peer.requirements.read_text().splitlines():
            name, _, version = line.partition("==")
            if name.lower() in {peer.environment, "django", "psycopg", "asyncpg"}:
                found[name.lower()] = version
    return found


def _machine(facts: dict[str, str], pinned: dict[str, str]) -> str:
    rows = [*facts.items(), *sorted(pinned.items())]
    return _table(["", ""], [[name, value] for name, value in rows])


def _drain(rates: dict[str, Any]) -> str:
    figures = {name: median(one["rates"]) for name, one in rates.items()}
    ours = figures.get(OURS)
    notes = {peer.name: peer.note for peer in DRAIN}
    rows = [
        [
            name,
            f"{figure:,.0f}",
            f"{min(rates[name]['rates']):,.0f} to {max(rates[name]['rates']):,.0f}",
            f"{rates[name]['jobs']:,}",
            _ratio(ours, figure),
            notes.get(name, ""),
        ]
        for name, figure in sorted(figures.items(), key=lambda item: -item[1])
    ]
    head = ["", "jobs/s", "lowest to highest", "jobs queued", f"{OURS} is", "set up"]
    goals = [
        _goal("drain", f"2 × {PGQUEUER}", ours, figures.get(PGQUEUER), 2.0),
        _goal("drain", f"20 × {DJANGO_TASKS_DB}", ours, figures.get(DJANGO_TASKS_DB), 20.0),
    ]
    return _section(
        "Drain: two worker processes, a full queue of no-op jobs",
        "Median of interleaved rounds. The clock starts when all workers wait at their first claim"
        " and stops when the last outcome is in the database."
        " Slow contenders get fewer jobs, so that the run ends.",
        _table(head, rows),
        goals,
    )


def _pickup(found: dict[str, dict[str, float]]) -> str:
    rows = [
        [name, f"{one['median_ms']:.2f}", f"{one['p99_ms']:.2f}", f"{one['max_ms']:.2f}"]
        for name, one in found.items()
    ]
    goals = []
    if OURS in found and PGQUEUER in found:
        ratio = found[OURS]["median_ms"] / found[PGQUEUER]["median_ms"]
        p99 = found[OURS]["p99_ms"]
        goals = [
            _verdict(f"median at most 1.2 × {PGQUEUER}", f"{ratio:.2f} ×", ratio <= 1.2),
            _verdict("p99 under 10 ms", f"{p99:.2f} ms", p99 < 10),
        ]
    return _section(
        "Pick-up: one idle worker process, single jobs",
        "From just before COMMIT is sent to the handler's first line; the pause before each job"
        " is random, 20 to 60 ms.",
        _table(["", "median ms", "p99 ms", "longest ms"], rows),
        goals,
    )


def _idle(rates: dict[str, float]) -> str:
    rows = [[name, f"{rate:.2f}"] for name, rate in sorted(rates.items(), key=lambda one: one[1])]
    goals = []
    if OURS in rates:
        goals = [_verdict("at most 1 a second", f"{rates[OURS]:.2f}", rates[OURS] <= 1)]
    return _section(
        "Idle: statements a second of one worker process",
        "Counted over 30 s in the server's log, BEGIN and COMMIT included.",
        _table(["", "statements/s"], rows),
        goals,
    )


def _memory(found: dict[str, dict[str, float]]) -> str:
    columns = ("pss_mb", "rss_mb", "private_mb", "supervisor_pss_mb")
    rows = [[name, *(f"{one[column]:.1f}" for column in columns)] for name, one in found.items()]
    goals = []
    if OURS in found and DJANGO_TASKS_DB in found:
        ratio = found[OURS]["pss_mb"] / found[DJANGO_TASKS_DB]["pss_mb"]
        goals = [_verdict(f"at most 1.2 × {DJANGO_TASKS_DB}", f"{ratio:.2f} ×", ratio <= 1.2)]
    return _section(
        "Memory of a worker process",
        "Mean of two worker processes after 500 no-op jobs, the same INSTALLED_APPS beside the"
        " engine's own; a supervisor is counted apart, once.",
        _table(["", "PSS MB", "RSS MB", "private MB", "supervisor MB"], rows),
        goals,
    )


def _tables(found: dict[str, dict[str, list[float]]]) -> str:
    rows = []
    goals = []
    for name, kinds in found.items():
        medians = {kind: median(rates) for kind, rates in kinds.items()}
        (_, fresh), *others = medians.items()
        cells = [f"{rate:,.0f} ({rate / fresh:.2f} ×)" for _, rate in others]
        rows.append([name, f"{fresh:,.0f}", *cells])
        if name == OURS:
            goals = [_goal(kind, "0.9 × fresh", rate, fresh, 0.9) for kind, rate in others]
    kinds_seen = list(next(iter(found.values())))
    return _section(
        "Drain on tables the planner knows badly",
        "Jobs/s, median of interleaved rounds, and how much of the fresh table's speed that is."
        " Never analysed: 200,000 finished rows, no statistics. The others: 1,000,000 finished"
        " rows, last analysed at 500, when these were all finished or all queued. Autovacuum is"
        " off for the three.",
        _table(["", *kinds_seen], rows),
        goals,
    )


def _live(found: dict[str, Any]) -> str:
    rows, goals = [], []
    for way, one in found["delays"].items():
        fast, slow = one["median_ms"], one["p95_ms"]
        rate, web = (median(drain[name] for drain in found["drains"][way]) for name in _DRAINED)
        share = median(share for drain in found["drains"][way] for share in drain["shares"])
        delays = (f"{fast:.0f}", f"{slow:.0f}", f"{one['max_ms']:.0f}")
        speeds = (f"{one['others_per_s']:,.0f}", f"{rate:,.0f}", f"{share:.3f} ×")
        rows.append([way, *delays, *speeds, f"{web:.1%}"])
        goals += [
            _verdict(f"{way}: median at most 250 ms", f"{fast:.0f} ms", fast <= 250),
            _verdict(f"{way}: p95 at most 1 s", f"{slow:.0f} ms", slow <= 1000),
            _verdict(f"{way}: workers at least 0.95 × as fast", f"{share:.3f} ×", share >= 0.95),
        ]
    columns = ["", "median ms", "p95 ms", "longest ms", "others/s", "jobs/s", "told/silent", "web"]
    return _section(
        "Live: from a commit to the row on a page",
        "20 marked tasks in a list filtered to their queue, changed one by one, seen by a Chromium"
        " and 19 plain sockets, while two worker processes finish others. Then the workers drain a"
        " full queue with these readers and tell pages only every other second: told/silent is the"
        " median of each second's jobs beside those of its neighbours, web the share of a processor"
        " that the web process took.",
        _table(columns, rows),
        goals,
    )


_DRAINED = ("rate", "web")


def _big(found: dict[str, dict[str, list[float]]]) -> str:
    (few, before), (many, after) = sorted(found.items(), key=lambda item: int(item[0]))
    medians = {page: (median(times), median(after[page])) for page, times in before.items()}
    rows = [
        [
            f"{page} \\*" if page in BOUNDED else f"{page} †" if page in SHORT else page,
            f"{small:.0f}",
            f"{large:.0f}",
            f"{large / small:.2f} ×",
        ]
        for page, (small, large) in medians.items()
    ]
    ratios = [large / small for page, (small, large) in medians.items() if page not in BOUNDED]
    longest = max(large for page, (_, large) in medians.items() if page in BOUNDED)
    goals = [
        _verdict("median of the pages: at most 1.5 ×", f"{median(ratios):.2f} ×", _fits(ratios)),
        _verdict("bounded searches: at most 2 s", f"{longest / 1000:.2f} s", longest <= 2000),
    ]
    return _section(
        "Big tables: the time the server needs for a page",
        "Milliseconds, median of interleaved rounds, from the request to the whole page, signed in"
        " as a superuser of the example host. \\* nothing matches, so that all rows are looked"
        " through that a search may look through: 100,000, or all there are. † the small table has"
        " 10 tasks that are tried again and 20 that wait, the large one more than the 50 of a page."
        " The shop has 2,500 orders in both.",
        _table(["", f"{int(few):,} tasks", f"{int(many):,} tasks", ""], rows),
        goals,
    )


def _fits(ratios: Sequence[float]) -> bool:
    return median(ratios) <= 1.5


SECTIONS: dict[str, Callable[[Any], str]] = {
    "drain": _drain,
    "pickup": _pickup,
    "idle": _idle,
    "memory": _memory,
    "tables": _tables,
    "live": _live,
    "big": _big,
}


def _section(title: str, how: str, table: str, goals: Sequence[str]) -> str:
    lines = "\n".join(f"- {goal}" for goal in goals if goal)
    return "\n\n".join(part for part in (f"## {title}", how, table, lines) if part)


def _goal(what: str, target: str, ours: float | None, other: float | None, least: float) -> str:
    if ours is None or other is None:
        return ""
    ratio = ours / other
    return _verdict(f"{what}: at least {target}", f"{ratio:.2f} ×", ratio >= least)


def _verdict(goal: str, measured: str, reached: bool) -> str:
    return f"{goal}: {measured}, {'reached' if reached else '**missed**'}"


def _ratio(ours: float | None, other: float) -> str:
    return f"{ours / other:,.2f} ×" if ours else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * max(3, width) for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (head, rule, *rows)
    )
