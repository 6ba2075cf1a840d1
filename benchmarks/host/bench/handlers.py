"""Found by aftersave's autodiscovery; nobody else imports it."""

from benchmarks.peers import adapter
from tasks import handler


@handler("bench.noop")
def noop(task):
    pass


@handler("bench.ping")
def ping(task):
    adapter.send_ping()
