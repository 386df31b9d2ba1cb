"""An HTTP proxy before a store or a REST catalog: it refuses, delays and cuts off requests, before or after they act.

The faults that matter to a commit are those after which the client cannot know what happened: ``CUT_AFTER`` and
``ERROR_AFTER`` forward the request, so that the store acts on it, and lose or falsify the answer.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

_HOP_BY_HOP = frozenset({"connection", "transfer-encoding", "keep-alive", "proxy-connection", "expect"})


class Fault(StrEnum):
    """What becomes of one request."""

    NONE = "none"
    REFUSE = "refuse"
    """The connection is closed, and the store never sees the request."""
    UNAVAILABLE = "unavailable"
    """503 SlowDown, and the store never sees the request."""
    DELAY = "delay"
    """Forwarded late."""
    CUT_AFTER = "cut_after"
    """Forwarded, and the connection is closed instead of an answer."""
    ERROR_AFTER = "error_after"
    """Forwarded, and answered with 500 whatever the store said."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the plan is asked about. ``number`` counts all requests from 1; names of headers are in lower case."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]

    @property
    def is_publish(self) -> bool:
        """Whether this is the request that makes a Paimon snapshot, on an object store or a REST catalog."""
        if self.method == "POST":
            return self.path.endswith("/commit")
        return self.method == "PUT" and "/snapshot/snapshot-" in self.path


Plan = Callable[[Request], Fault]


def no_faults(request: Request) -> Fault:
    """Let everything through."""
    return Fault.NONE


def random_faults(seed: int, rates: Mapping[Fault, float], among: Callable[[Request], bool] | None = None) -> Plan:
    """Return a plan that draws a fault for each request of ``among`` (all if None) with the given probabilities."""
    chance = random.Random(seed)
    lock = threading.Lock()

    def plan(request: Request) -> Fault:
        if among is not None and not among(request):
            return Fault.NONE
        with lock:
            drawn = chance.random()
        for fault, rate in rates.items():
            drawn -= rate
            if drawn < 0:
                return fault
        return Fault.NONE

    return plan


class FaultyStore:
    """Proxies the store at ``127.0.0.1:upstream_port`` while the context is open.

    Args:
        upstream_port: where the real store listens.
        plan: decides on each request; can be replaced at any time through :attr:`plan`.
        delay_s: how late a delayed request is forwarded.
        strip: request headers that are not passed on, in lower case: a store that knows nothing of them.

    Attributes:
        plan: the plan in force.
        counts: how often each fault happened.
    """

    def __init__(
        self, upstream_port: int, plan: Plan = no_faults, *, delay_s: float = 0.2, strip: frozenset[str] = frozenset()
    ) -> None:
        self.plan = plan
        self.counts: Counter[Fault] = Counter()
        self._upstream_port = upstream_port
        self._delay_s = delay_s
        self._strip = strip | _HOP_BY_HOP
        self._lock = threading.Lock()
        self._num_requests = 0
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        """URL to give to clients instead of the store's."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultyStore:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def decide(self, method: str, path: str, headers: Mapping[str, str]) -> Fault:
        """Return what happens to the next request, and count it."""
        with self._lock:
            self._num_requests += 1
            number = self._num_requests
        fault = self.plan(Request(number, method, path, {name.lower(): value for name, value in headers.items()}))
        with self._lock:
            self.counts[fault] += 1
        return fault

    def forward(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send a request to the store and return status, headers and body of its answer."""
        upstream = http.client.HTTPConnection("127.0.0.1", self._upstream_port, timeout=60)
        try:
            upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                if name.lower() not in self._strip and name.lower() != "content-length":
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def delay(self) -> None:
        """Wait as long as a delayed request does."""
        time.sleep(self._delay_s)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what this is for."""


def _handler_of(store: FaultyStore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 120
        disable_nagle_algorithm = True
        wbufsize = -1

        def _handle(self) -> None:
            headers = dict(self.headers.items())
            fault = store.decide(self.command, self.path, headers)
            if fault is Fault.REFUSE:
                self.close_connection = True
                return
            body = self._read_body()
            if fault is Fault.UNAVAILABLE:
                self._answer(503, [], b"<Error><Code>SlowDown</Code><Message>later</Message></Error>")
                return
            if fault is Fault.DELAY:
                store.delay()
            status, answered, content = store.forward(self.command, self.path, headers, body)
            if fault is Fault.CUT_AFTER:
                self.close_connection = True
            elif fault is Fault.ERROR_AFTER:
                self._answer(500, [], b"<Error><Code>InternalError</Code><Message>lost</Message></Error>")
            else:
                self._answer(status, answered, content)

        def handle_expect_100(self) -> bool:
            is_welcome = super().handle_expect_100()
            self.wfile.flush()
            return is_welcome

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815

        def _read_body(self) -> bytes:
            if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            with suppress(OSError):
                self.send_response_only(status)
                length = str(len(content))
                for name, value in headers:
                    if name.lower() == "content-length":
                        length = value
                    elif name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
                self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent."""

    return Handler
