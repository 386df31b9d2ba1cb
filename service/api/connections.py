"""Connections held to bounds: how many, and how long a request may take to arrive.

Descriptors are shared with the data plane: callers that hold many half-sent requests must not keep it from its files.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_SPARE_DESCRIPTORS = 256
_WANTED_DESCRIPTORS = 65_536


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds on connections.

    Attributes:
        max_connections: open at a time. One more takes the place of the one that has been sending its request for the
            longest; where all wait for answers, it is closed.
        header_s: from the first moment of a connection, or the first byte of a further request, to the end of headers.
        body_s: from there to the end of the body.
    """

    max_connections: int
    header_s: float = 10.0
    body_s: float = 30.0


@dataclass(slots=True)
class _Crowd:
    """All connections of one server, the oldest first, by whether a request is still arriving on them."""

    arriving: dict[BoundedProtocol, None] = field(default_factory=dict)
    num_open: int = 0


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 under :class:`ConnectionLimits`. Use :func:`bounded_protocol`."""

    limits: ConnectionLimits
    crowd: _Crowd

    _timer: asyncio.TimerHandle | None = None
    _is_counted = False
    _has_headers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or close it where there are too many."""
        super().connection_made(transport)
        if self.crowd.num_open >= self.limits.max_connections:
            slowest = next(iter(self.crowd.arriving), None)
            if slowest is None:
                transport.abort()
                return
            slowest.end()
        self.crowd.num_open += 1
        self._is_counted = True
        self._expect(self.limits.header_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._settle()
        self._uncount()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and see how far the request has come with them."""
        super().data_received(data)
        state = self.conn.their_state
        if state is h11.IDLE:
            # The headers of this request, or of the next one on the connection, are on their way.
            if self._timer is None and not self.transport.is_closing() and self.conn.trailing_data[0]:
                self._expect(self.limits.header_s)
        elif state is h11.SEND_BODY:
            if not self._has_headers:
                self._has_headers = True
                self._expect(self.limits.body_s)
        else:
            self._settle()

    def end(self) -> None:
        """Close at once: whoever sends so slowly gets no answer."""
        self._settle()
        self._uncount()
        self.transport.abort()

    def _expect(self, seconds: float) -> None:
        self._cancel()
        self._timer = self.loop.call_later(seconds, self.end)
        self.crowd.arriving.setdefault(self)

    def _settle(self) -> None:
        self._cancel()
        self._has_headers = False
        self.crowd.arriving.pop(self, None)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _uncount(self) -> None:
        if self._is_counted:
            self._is_counted = False
            self.crowd.num_open -= 1


def bounded_protocol(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """Return the protocol of one server under ``limits``."""
    attributes: dict[str, Any] = {"limits": limits, "crowd": _Crowd()}
    return type("BoundedProtocol", (BoundedProtocol,), attributes)


def descriptors_for(max_connections: int) -> int:
    """Have this process allowed as many descriptors as it may, and return how many connections leave it enough.

    Half of what is allowed is the data plane's, and some to spare.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _WANTED_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    allowed = max_connections if soft == resource.RLIM_INFINITY else (soft - _SPARE_DESCRIPTORS) // 2
    return max(8, min(max_connections, allowed))
