"""A test of real processes that fails shows what they printed last, and the tasks left."""

from collections.abc import Iterator

import pytest

from tests.services.host import Host

LINES = 40


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    hosts = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Host)]
    if report.when == "call" and report.failed:
        for process in [started for host in hosts for started in host.started]:
            lines = process.output().splitlines()[-LINES:]
            report.sections.append((f"{process.args!r}", "\n".join(lines)))
    return report
