"""A Ray cluster that somebody else runs: connecting to it and leaving it."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

from consumers.errors import ConfigurationError
from consumers.pool import embedded_ray
from consumers.pool.container import memory_limit
from consumers.pool.memory_plan import share_of_node

_CONNECT_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 2.0
_CHECK_ALIVE = "/ray.rpc.NodeInfoGcsService/CheckAlive"


def connect(address: str) -> None:
    """Connect this process to the cluster at ``address``, host:port of its head or "auto".

    Raises:
        ConfigurationError: there is none, or it does not let us in.
    """
    import ray  # noqa: PLC0415 - see embedded_ray

    host, separator, port = address.rpartition(":")
    try:
        if separator and port.isdecimal():
            # Ray itself tries for minutes, and takes a refusal for silence.
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S).close()
            check_token(address)
        with embedded_ray.preserved_sigterm():
            embedded_ray.silence()
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"there is no Ray cluster to connect to at {address}: {type(error).__name__}: {error}; check pool.address, "
            "and that the cluster runs"
        ) from error


def check_token(address: str) -> None:
    """Return unless the cluster says that it does not take this process's token.

    Raises:
        ConfigurationError: it does.
    """
    import grpc  # noqa: PLC0415 - comes with Ray

    token = _token()
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(address) as channel:
        try:
            channel.unary_unary(_CHECK_ALIVE)(b"", timeout=_CONNECT_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            # Anything else is for Ray to judge, which may speak TLS here.
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                has = "this process has none" if token is None else "it refuses the one of this process"
                raise ConfigurationError(
                    f"the Ray cluster at {address} asks for its token, and {has}; set RAY_AUTH_MODE=token and "
                    "RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, as they are set for the cluster"
                ) from error


def _token() -> str | None:
    """Return the token that Ray will show, found where Ray finds it."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def worker_memory_bytes(wanted_bytes: int | None, cpus: float) -> int:
    """Return the private memory that a worker of this process's node may have; to be called in the worker.

    Args:
        wanted_bytes: as it was set; None where it was not.
        cpus: that Ray reserves for it.
    """
    import ray  # noqa: PLC0415 - see embedded_ray

    own = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    resources: dict[str, float] = next((node["Resources"] for node in nodes if node["NodeID"] == own), {})
    return share_of_node(
        memory_limit(),
        wanted_bytes=wanted_bytes,
        object_store_bytes=resources.get("object_store_memory", 0.0),
        cpus=cpus,
        node_cpus=resources.get("CPU", 0.0),
    )


def disconnect() -> None:
    """Leave the cluster, which lives on."""
    import ray  # noqa: PLC0415 - see embedded_ray

    ray.shutdown()


def head() -> tuple[str, int]:
    """Return host and port of the head of the cluster that this process is connected to."""
    import ray  # noqa: PLC0415 - see embedded_ray

    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    return host.strip("[]"), int(port)


def answers(head: tuple[str, int]) -> bool:
    """Return whether somebody listens at ``head``. Asks Ray nothing, and so cannot hang on a Ray that has died."""
    try:
        socket.create_connection(head, timeout=_ANSWER_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def is_own_node_alive() -> bool:
    """Return whether the cluster takes the node that this process is connected to for alive."""
    import ray  # noqa: PLC0415 - see embedded_ray

    own = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return any(node["NodeID"] == own and node["Alive"] for node in nodes)
