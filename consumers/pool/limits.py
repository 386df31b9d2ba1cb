"""What a worker process may use. Beyond it an allocation fails, or the process ends; its neighbours see nothing."""

from __future__ import annotations

import faulthandler
import math
import resource
import signal

_STDERR = 2


def limit_memory(num_bytes: int | None) -> None:
    """Let allocations of this process fail beyond ``num_bytes`` of private memory; None changes nothing.

    The bound is on data (``RLIMIT_DATA``: heap, private mappings and stacks), not on address space: Ray maps its whole
    object store into each worker, shared, so that a bound on addresses would be one on the store. At rest a worker has
    2 GB of addresses and 0.35 GB of data (measured with Ray 2.60).
    """
    if num_bytes is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = num_bytes if hard == resource.RLIM_INFINITY else min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def explain_crashes() -> None:
    """Have the traceback of a crash, or of the end of the CPU time, written to standard error."""
    faulthandler.enable(file=_STDERR, all_threads=False)
    faulthandler.register(signal.SIGXCPU, file=_STDERR, chain=True)


def limit_cpu(seconds: float) -> None:
    """End this process when it has used ``seconds`` of CPU time from now on."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def unlimit_cpu() -> None:
    """Take back :func:`limit_cpu`."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
