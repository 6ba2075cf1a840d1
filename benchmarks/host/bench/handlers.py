"""Found by aftersave's autodiscovery; nobody else imports it."""

import os

from benchmarks.host import turns
from benchmarks.peers import adapter
from tasks import handler, page_bell


@handler("bench.noop")
def noop(task):
    pass


@handler("bench.ping")
def ping(task):
    adapter.send_ping()


if os.environ.get("BENCH_TELLS_BY_TURNS"):
    page_bell.changed = turns.by_turns(page_bell.changed)
