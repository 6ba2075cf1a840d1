"""A CRM that fails now and then, always for the same customers."""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW_DOMAIN = "slow.example"
REFUSED_DOMAIN = "typo.example"


class FakeCrm:
    """Answers ``PUT /orders/<number>``.

    Customers at SLOW_DOMAIN get 503 the first ``busy_times`` times, with ``retry_after`` seconds to
    wait. Customers at REFUSED_DOMAIN get 422 once: somebody has mended the address by then.
    """

    def __init__(self, *, busy_times: int, retry_after: int) -> None:
        self.busy_times = busy_times
        self.retry_after = retry_after
        self.calls: Counter[str] = Counter()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Desk)
        self._server.crm = self  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def answer(self, path: str, order: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and body for this order."""
        self.calls[path] += 1
        email = order["customer"]["email"]
        if email.endswith("@" + SLOW_DOMAIN) and self.calls[path] <= self.busy_times:
            return 503, {"error": "too much to do, come back later"}
        if email.endswith("@" + REFUSED_DOMAIN) and self.calls[path] == 1:
            return 422, {"error": f"the domain of {email} does not exist"}
        return 200, {"customer_id": f"C-{order['number']}"}


class _Desk(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        crm: FakeCrm = self.server.crm  # type: ignore[attr-defined]
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = crm.answer(self.path, order)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", str(crm.retry_after))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """The task's own page says what the CRM answered."""
