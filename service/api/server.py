"""Serves the application in a thread of its own, on one socket that is bound before anything else starts."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import TracebackType

import uvicorn
from fastapi import FastAPI

from consumers.errors import ConfigurationError
from service.api.connections import ConnectionLimits, bounded_protocol, descriptors_for
from service.settings import ApiSettings

_MAX_HEADER_BYTES = 64 * 1024


class ApiServer:
    """A uvicorn server in a thread; the main thread keeps the signals.

    Args:
        api: where to listen.
        protocol: how connections are held to bounds; None is by the settings.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """

    def __init__(self, api: ApiSettings, protocol: type[asyncio.Protocol] | None = None) -> None:
        self._api = api
        self._protocol = protocol or bounded_protocol(ConnectionLimits(descriptors_for(api.max_connections)))
        family = socket.AF_INET6 if ":" in api.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((api.host, api.port))
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(
                f"the control plane cannot listen on {api.host}:{api.port}: {error.strerror}; set another port in "
                "[api], or run without it (--no-api)"
            ) from error
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        scheme = "http" if self._api.tls_key is None else "https"
        host = f"[{self._api.host}]" if ":" in self._api.host else self._api.host
        return f"{scheme}://{host}:{self._socket.getsockname()[1]}"

    def start(self, app: FastAPI) -> None:
        """Serve ``app``; returns at once, requests wait until the server is up."""
        self._socket.listen()
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                http=self._protocol,
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                # A forwarded address is anyone's claim; those of named proxies are read in security.py.
                proxy_headers=False,
                timeout_graceful_shutdown=3,
                ssl_certfile=self._api.tls_certificate,
                ssl_keyfile=self._api.tls_key,
            )
        )
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="api", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer what is being asked, and end."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()

    def __enter__(self) -> ApiServer:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
