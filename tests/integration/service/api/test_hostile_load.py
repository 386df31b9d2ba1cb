"""The control plane under callers that mean no good: what they can hold is bounded, and the probes answer all along."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from service.api.app import create_app
from service.api.connections import ConnectionLimits, bounded_protocol
from service.api.server import ApiServer
from service.api.tokens import Role
from service.host import hosting
from service.settings import ApiSettings
from tests.support.api import TOKENS, Service

_MAX = 32


@contextmanager
def _serving(service: Service, *, header_s: float = 60.0, body_s: float = 60.0) -> Iterator[str]:
    limits = ConnectionLimits(_MAX, header_s=header_s, body_s=body_s)
    with service, ApiServer(ApiSettings(port=0), protocol=bounded_protocol(limits)) as server:
        server.start(create_app(service.services))
        yield server.url


def _connect(url: str, sent: bytes = b"") -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    opened = socket.create_connection((host, int(port)), timeout=10)
    opened.sendall(sent)
    return opened


def _num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _is_closed_within(opened: socket.socket, seconds: float) -> bool:
    opened.settimeout(seconds)
    try:
        while data := opened.recv(65536):
            assert data
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def _get(path: str) -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKENS[Role.READ]}\r\n\r\n"
    return head.encode()


_HALF_SENT = [
    b"",
    b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
    b"POST /api/v1/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{",
]


@pytest.mark.parametrize("sent", _HALF_SENT, ids=["nothing", "headers", "body"])
def test_requests_that_never_arrive_hold_a_bounded_number_of_descriptors_and_stop_nobody(sent: bytes) -> None:
    service = Service()
    with _serving(service) as url, ExitStack() as stack:
        before = _num_descriptors()
        attackers = []
        for _ in range(20 * _MAX):
            opened = _connect(url, sent)
            # Its own end counts in this process as well; only what the server holds is looked at below.
            attackers.append(opened)
            stack.callback(opened.close)
        with httpx.Client(base_url=url, timeout=1.0) as client:
            for _ in range(5):
                assert client.get("/livez").status_code == 200
            answer = client.get("/api/v1/consumers", headers={"Authorization": f"Bearer {TOKENS[Role.READ]}"})
            assert answer.status_code == 200
            assert _num_descriptors() - before - len(attackers) <= _MAX + 16


@pytest.mark.parametrize("sent", _HALF_SENT, ids=["nothing", "headers", "body"])
def test_request_that_does_not_arrive_in_time_is_given_up(sent: bytes) -> None:
    with _serving(Service(), header_s=0.2, body_s=0.2) as url, _connect(url, sent) as opened:
        assert _is_closed_within(opened, 10)


def test_byte_now_and_then_buys_no_time() -> None:
    with _serving(Service(), header_s=0.5) as url, _connect(url, _HALF_SENT[1]) as opened:
        ended = threading.Event()

        def drip() -> None:
            with suppress(OSError):
                while not ended.wait(0.05):
                    opened.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        began_s = time.monotonic()
        try:
            assert _is_closed_within(opened, 10)
        finally:
            ended.set()
            thread.join()
        assert time.monotonic() - began_s < 5


def test_second_request_on_a_connection_has_to_arrive_in_time_as_well() -> None:
    with (
        _serving(Service(), header_s=0.3) as url,
        _connect(url, b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as opened,
    ):
        assert b"alive" in opened.recv(65536)
        opened.sendall(b"GET /livez HT")
        assert _is_closed_within(opened, 4)


def test_callers_that_wait_for_answers_are_not_closed_for_a_further_one() -> None:
    service = Service()
    with _serving(service, header_s=0.2, body_s=0.2) as url, ExitStack() as stack:
        streams = []
        for _ in range(_MAX):
            opened = stack.enter_context(_connect(url))
            head = (
                f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKENS[Role.READ]}\r\n\r\n"
            )
            opened.sendall(head.encode())
            assert b"200" in opened.recv(65536)
            streams.append(opened)
        with _connect(url, _LIVEZ) as further:
            assert _is_closed_within(further, 10)
        for opened in streams:
            opened.settimeout(10)
            assert b"still here" in opened.recv(65536) or b"event" in opened.recv(65536)


def test_probes_answer_within_a_second_while_the_store_hangs_and_callers_fill_every_thread() -> None:
    service = Service()
    release = threading.Event()
    hanging = threading.Semaphore(0)

    def hang(*_: object, **__: object) -> None:
        hanging.release()
        release.wait(60)

    with _serving(service) as url, ExitStack() as stack:
        stack.callback(release.set)
        for name in ("dead_letters", "rejected", "recent_commits", "clips"):
            setattr(service.library, name, hang)
        # The host's own looks at the control table hang as well.
        service.control.version = hang  # type: ignore[method-assign, assignment]
        assert hanging.acquire(timeout=10)
        for _ in range(_MAX - 4):
            stack.enter_context(_connect(url, _get("/api/v1/consumers/films/dead-letters")))
            assert hanging.acquire(timeout=10)
        with httpx.Client(base_url=url, timeout=1.0) as client:
            for _ in range(8):
                assert client.get("/livez").status_code == 200
                assert client.get("/startupz").status_code == 200


def test_store_that_hangs_does_not_keep_the_service_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "_CLOSE_GRACE_S", 0.3)
    service = Service()
    release = threading.Event()
    asked = threading.Event()

    def hang() -> int:
        asked.set()
        release.wait(60)
        return 0

    with service:
        service.control.version = hang  # type: ignore[method-assign]
        assert asked.wait(10)
        began_s = time.monotonic()
        service.host.close(0.1)
        assert time.monotonic() - began_s < 10
        release.set()


def test_headers_without_end_are_refused() -> None:
    with _serving(Service()) as url, _connect(url, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n") as opened:
        with suppress(OSError):
            for _ in range(100):
                opened.sendall(b"X-Long: " + b"a" * 4000 + b"\r\n")
        assert _is_closed_within(opened, 10)
