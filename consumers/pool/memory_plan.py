"""How many workers there are and what memory each may have, so that a worker dies of its video and not the container.

Where the workers' bounds together are above what the container has, the kernel ends something of the container when
videos are hungry, and that may be everything.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from consumers.errors import ConfigurationError
from consumers.pool.container import MemoryLimit

LEAST_WORKER_BYTES = 1 << 30
MOST_WORKER_BYTES = 4 << 30
"""What a worker gets where there is enough; the largest frame that the limits allow takes some 0.3 GB to decode."""
SERVICE_BYTES = 1280 << 20
"""The service itself (0.6 GB after a day), Ray's own processes (0.5 GB) and Serve's controller (0.1 GB)."""
NODE_BYTES = 1 << 30
"""Ray's own processes on a node of a cluster."""
MODEL_BYTES = 2 << 30
"""A worker that holds a model."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """So many workers, and so much private memory for each, in bytes."""

    num_workers: int
    worker_bytes: int


def plan_workers(
    limit: MemoryLimit,
    *,
    num_cpus: int,
    num_workers: int | None,
    worker_bytes: int | None,
    object_store_bytes: int,
    num_models: int = 0,
) -> WorkerPlan:
    """Return the workers of a pool beside the service, in one container with it.

    Args:
        limit: what all have together.
        num_cpus: one worker for each where nobody says how many.
        num_workers: as it was set; None where it was not.
        worker_bytes: the bound of a worker as it was set; None where it was not.
        object_store_bytes: Ray's, which is memory of the container.
        num_models: workers that hold a model.

    Raises:
        ConfigurationError: what was set does not fit into the container.
    """
    kept = SERVICE_BYTES + object_store_bytes + num_models * MODEL_BYTES
    room = max(0, limit.num_bytes - kept)
    least = worker_bytes or LEAST_WORKER_BYTES
    num_fitting = room // least
    count = num_workers or max(1, min(num_cpus, num_fitting))
    if count > num_fitting:
        what = "the container" if limit.is_container else "this machine"
        said = (
            f"{count} workers of {_gib(least)} do not fit: {what} has {_gib(limit.num_bytes)}, of which "
            f"{_gib(kept)} are for the service, Ray and its object store"
            f"{f' and {num_models} model workers' if num_models else ''}"
        )
        or_less = ", or pool.worker_memory_bytes lower" if worker_bytes is not None else ""
        if limit.is_container and (num_workers is not None or worker_bytes is not None):
            raise ConfigurationError(
                f"{said}, so that a hungry video would end all of it; set pool.replicas to {max(1, num_fitting)} or "
                f"less{or_less}, or give it {_gib(kept + count * least)}"
            )
        _log.warning("%s; a hungry video may end all of it", said)
    return WorkerPlan(count, worker_bytes or min(MOST_WORKER_BYTES, max(LEAST_WORKER_BYTES, room // count)))


def share_of_node(
    limit: MemoryLimit, *, wanted_bytes: int | None, object_store_bytes: float, cpus: float, node_cpus: float
) -> int:
    """Return the bound of a worker on a node of a cluster, where other workers may take the rest of its CPUs.

    Args:
        limit: what the node's container has.
        wanted_bytes: as it was set; None where it was not. Not more than there is beside Ray's own processes.
        object_store_bytes: the node's.
        cpus: that Ray reserves for the worker.
        node_cpus: that the node has.
    """
    room = max(LEAST_WORKER_BYTES, limit.num_bytes - NODE_BYTES - int(object_store_bytes))
    if wanted_bytes is not None:
        return min(wanted_bytes, room)
    share = room if node_cpus <= 0 else int(room * min(1.0, cpus / node_cpus))
    return min(MOST_WORKER_BYTES, max(LEAST_WORKER_BYTES, share))


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
