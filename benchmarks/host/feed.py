"""Enqueues so many no-op tasks a second until it is ended."""

import sys
import time

import django

BATCH = 50


def main(rate: int) -> None:
    from tasks import build, enqueue_many

    started, fed = time.monotonic(), 0
    while True:
        enqueue_many([build("bench.noop", queue="other") for _ in range(BATCH)])
        fed += BATCH
        time.sleep(max(0.0, started + fed / rate - time.monotonic()))


if __name__ == "__main__":
    django.setup()
    main(int(sys.argv[1]))
