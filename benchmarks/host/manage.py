"""The host project of the Django contenders; BENCH_ENGINE says whose."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    # The script's own folder comes off the path: a host of modules named `bench` would shadow.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.host.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
