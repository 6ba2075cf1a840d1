"""What runs in a demo beside the database: pages, workers, and a CRM."""

import contextlib
import os
import sys
from collections.abc import Iterator
from functools import partial

from django.conf import settings
from django.urls import reverse

from orders.demo.crm import FakeCrm
from orders.demo.folder import Folder
from orders.demo.processes import Child, free_port, wait_until
from orders.demo.visitor import Visitor
from tasks.models import Worker

WORKER_PROCESSES = 2
START_LIMIT = 45.0


class Stage:
    """Daphne and the workers, started for the site at ``address``."""

    def __init__(self, folder: Folder, crm: FakeCrm, *, first_port: int | None) -> None:
        self.folder = folder
        self.crm = crm
        self.port = free_port(first_port)
        self.address = f"http://127.0.0.1:{self.port}"
        self.children: list[Child] = []

    @property
    def tasks_address(self) -> str:
        return self.address + reverse("admin:tasks_task_overview")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Everything is up inside the block and has ended after it, however the block ends."""
        try:
            self._start()
            yield
        finally:
            for child in reversed(self.children):
                child.stop()
            self.crm.stop()

    def demand_alive(self) -> None:
        """Raises ProcessDied when one of the processes is gone."""
        for child in self.children:
            child.demand_alive()

    def _start(self) -> None:
        self.workers_before = set(Worker.objects.values_list("pk", flat=True))
        self._start_child("daphne", "-m", "daphne", *self._daphne_options())
        self._start_child("workers", "manage.py", "runworker", f"--processes={WORKER_PROCESSES}")
        self.crm.start()
        for what, ready in (("the first page", _serves), ("the workers", _work)):
            wait_until(
                partial(ready, self),
                what=what,
                seconds=START_LIMIT,
                meanwhile=self.demand_alive,
            )

    def _daphne_options(self) -> list[str]:
        module, _, name = settings.ASGI_APPLICATION.rpartition(".")
        return ["-v", "0", "-b", "127.0.0.1", "-p", str(self.port), f"{module}:{name}"]

    def _start_child(self, name: str, *arguments: str) -> None:
        child = Child(
            name,
            [sys.executable, *arguments],
            log=self.folder.log(name),
            cwd=settings.BASE_DIR,
            env={**os.environ, "CRM_URL": self.crm.url, "SITE_URL": self.address},
        )
        self.children.append(child)


def _serves(stage: Stage) -> bool:
    with contextlib.suppress(OSError):
        return Visitor(stage.address).get(reverse("orders:storefront")).status == 200
    return False


def _work(stage: Stage) -> bool:
    ready = Worker.objects.filter(stopped_at=None, lost_at=None).exclude(
        pk__in=stage.workers_before
    )
    return ready.count() >= WORKER_PROCESSES
