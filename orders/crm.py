"""The CRM: one HTTP call that tells it about an order."""

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from django.conf import settings

from orders.models import Order

TIMEOUT = 5.0
BUSY = {429, 502, 503, 504}
DEFAULT_WAIT = 20.0


class Busy(Exception):
    """The CRM cannot answer now; ask again in ``retry_after`` seconds."""

    def __init__(self, status: int, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"The CRM is busy (HTTP {status}).")


class Refused(Exception):
    """The CRM does not want this order; asking again changes nothing."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(f"The CRM refused the order (HTTP {status}): {why}")


def put_order(order: Order, *, key: str) -> dict[str, Any]:
    """Store the order in the CRM and return its answer. Blocks for at most TIMEOUT seconds.

    The same ``key`` again is the same call for the CRM. Raises Busy, Refused, and OSError when
    nobody answers.
    """
    request = Request(
        f"{settings.CRM_URL.rstrip('/')}/orders/{order.number}",
        method="PUT",
        data=json.dumps(_payload(order)).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": key},
    )
    try:
        with urlopen(request, timeout=TIMEOUT) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except HTTPError as error:
        raise _meaning(error) from error


def _payload(order: Order) -> dict[str, Any]:
    return {
        "number": order.number,
        "customer": {"name": order.customer, "email": order.email},
        "total": str(order.total),
    }


def _meaning(error: HTTPError) -> Exception:
    if error.code in BUSY:
        wait = error.headers.get("Retry-After", "")
        return Busy(error.code, float(wait) if wait.isdecimal() else DEFAULT_WAIT)
    if 400 <= error.code < 500:
        return Refused(error.code, error.read(500).decode(errors="replace").strip())
    return error
