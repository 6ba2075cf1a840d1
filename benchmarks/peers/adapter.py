"""What all adapters share; standard library only, every peer's environment imports it."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable

# About 100 bytes of JSON, the same for everybody.
DATA = {
    "order": 4711,
    "to": "ada.lovelace@example.com",
    "template": "order_confirmation",
    "language": "en",
}
WARM_UP = 10
GAP_SECONDS = (0.020, 0.060)
ANSWER_SECONDS = 30.0


def send_ping() -> None:
    """Tell the one who enqueued that the handler was entered, and when (monotonic clock)."""
    entered = time.monotonic_ns()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(struct.pack("q", entered), os.environ["BENCH_SOCKET"])


def measure_pings(count: int, enqueue: Callable[[], int]) -> None:
    """Print the nanoseconds from commit to handler start of `count` single jobs as a JSON list.

    `enqueue` commits one job and returns the monotonic time just before its COMMIT was sent.
    """
    path = os.environ["BENCH_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as answers:
        answers.settimeout(ANSWER_SECONDS)
        answers.bind(path)
        try:
            delays = [_ping(answers, enqueue) for _ in range(WARM_UP + count)]
        finally:
            os.unlink(path)
    print(json.dumps(delays[WARM_UP:]))


def _ping(answers: socket.socket, enqueue: Callable[[], int]) -> int:
    time.sleep(random.uniform(*GAP_SECONDS))
    committed = enqueue()
    (entered,) = struct.unpack("q", answers.recv(8))
    return int(entered) - committed


def main(**commands: Callable[..., None]) -> None:
    """`python -m benchmarks.peers.NAME COMMAND [NUMBER]`."""
    name, *numbers = sys.argv[1:]
    commands[name](*map(int, numbers))
