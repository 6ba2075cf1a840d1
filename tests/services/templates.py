from pathlib import Path
from weakref import WeakSet

from tests.services.databases import DatabaseServer
from tests.services.host import Host

TEMPLATE = "aftersave_template"
_prepared: WeakSet[DatabaseServer] = WeakSet()


def fresh_host(server: DatabaseServer, directory: Path) -> Host:
    """A host on a copy of one migrated database, which is made at the first call for a server."""
    if server not in _prepared:
        server.create(TEMPLATE)
        Host(server, directory, name=TEMPLATE).manage("migrate", "--run-syncdb", "--verbosity=0")
        _prepared.add(server)
    host = Host(server, directory)
    server.create(host.name, template=TEMPLATE)
    return host
