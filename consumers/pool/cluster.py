"""A Ray cluster that somebody else runs: connecting to it and leaving it."""

from __future__ import annotations

import logging
import socket
from typing import Any

from consumers.errors import ConfigurationError
from consumers.pool import embedded_ray

_CONNECT_TIMEOUT_S = 10.0


def connect(address: str) -> None:
    """Connect this process to the cluster at ``address``, host:port of its head or "auto".

    Raises:
        ConfigurationError: there is none, or it does not let us in.
    """
    import ray  # noqa: PLC0415 - see embedded_ray

    host, separator, port = address.rpartition(":")
    try:
        if separator and port.isdecimal():
            # Ray itself tries for minutes.
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
        with embedded_ray.preserved_sigterm():
            embedded_ray.silence()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except Exception as error:
        raise ConfigurationError(
            f"there is no Ray cluster to connect to at {address}: {type(error).__name__}: {error}"
        ) from error


def disconnect() -> None:
    """Leave the cluster, which lives on."""
    import ray  # noqa: PLC0415 - see embedded_ray

    ray.shutdown()


def head() -> tuple[str, int]:
    """Return host and port of the head of the cluster that this process is connected to."""
    import ray  # noqa: PLC0415 - see embedded_ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def is_own_node_alive() -> bool:
    """Return whether the cluster takes the node that this process is connected to for alive."""
    import ray  # noqa: PLC0415 - see embedded_ray

    own = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return any(node["NodeID"] == own and node["Alive"] for node in nodes)
