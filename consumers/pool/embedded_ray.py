"""Ray in this process's care: started on this machine, on loopback, and gone with the process.

Where Ray does not do the right thing by itself (2.60, each measured):

- it takes over SIGTERM: the handler that was there is put back;
- it binds to every interface: told that there is no cluster, it binds to loopback, but for a port of each replica;
- it writes a token file into the home directory: a token of this process's own comes with the environment instead;
- it prints what happens to workers on standard output: that goes to the log;
- it opens its directory, with the sockets of its processes, to every user: that is one inside a private one;
- its logs stay for ever: they go into a directory that is removed at the end, or by the next start if this process is
  killed. Ray's own processes die with this one; its two agents take about a minute over it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from consumers import heap
from consumers.errors import ConfigurationError, PoolLostError

SINGLE_THREADED = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}
"""One video to a process, so threads of libraries would only fight over the cores."""

FEW_ARENAS = {heap.ARENAS_VARIABLE: os.environ.get(heap.ARENAS_VARIABLE, str(heap.NUM_ARENAS))}
"""Ray has thirty threads in a worker before anything of ours runs there, so that the process has to begin with it."""

WORKER_ENVIRONMENT = {**SINGLE_THREADED, **FEW_ARENAS}
"""Environment of a worker."""

_DIRECTORY_PREFIX = "sluice-ray-"
# Ray puts sockets some 70 characters below its directory, and the system allows 107 for the whole path.
_LONGEST_DIRECTORY = 36
_FOR_RAY = "r"
_LOCK = "lock"
_START_S = 3600.0
_LEAST_OBJECT_STORE_BYTES = 80 * 2**20

RAY_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Read when Ray is imported, and by the processes that it starts, so they stay set while it runs."""

# Ray's client library reads the token once and keeps it, so a later start in this process must come with the same.
_TOKEN = secrets.token_hex(32)

logger = logging.getLogger(__name__)

_lock = threading.Lock()
_embedded: _Embedded | None = None


_DAEMONS = ("raylet", "gcs_server")


class _Embedded:
    def __init__(self, environment: contextlib.ExitStack) -> None:
        self.environment = environment
        self.num_users = 1
        self.daemons = [child for child in psutil.Process().children() if child.name() in _DAEMONS]

    @property
    def is_alive(self) -> bool:
        return all(_runs(daemon) for daemon in self.daemons)


def acquire(num_workers: int, object_store_bytes: int, *, with_gpus: bool = False) -> None:
    """Start Ray in this process's care, or share the one that is running already.

    Args:
        num_workers: worker processes to have ready: one for each replica. More can be started later.
        object_store_bytes: memory for results on their way; Ray wants 80 MiB or more.
        with_gpus: let Ray hand out the GPUs that it finds.

    Raises:
        ConfigurationError: Ray did not start.
        PoolLostError: the one that is running has died, and other pools still have to let it go.
    """
    global _embedded  # noqa: PLW0603 - there is one Ray to a process
    with _lock:
        if _embedded is not None:
            if not _embedded.is_alive:
                raise PoolLostError("Ray has ended on this machine, and another pool of this process still holds it")
            _embedded.num_users += 1
            return
        stack = contextlib.ExitStack()
        try:
            directory, lock_file = make_directory()
            stack.callback(remove_directory, directory, lock_file)
            token = os.environ.get("RAY_AUTH_TOKEN", _TOKEN)
            stack.enter_context(_environment({**RAY_ENVIRONMENT, "RAY_AUTH_TOKEN": token}))
            _init(directory, num_workers, max(object_store_bytes, _LEAST_OBJECT_STORE_BYTES), with_gpus)
        except ConfigurationError:
            stack.close()
            raise
        except Exception as error:
            stack.close()
            raise ConfigurationError(
                f"Ray could not be started on this machine: {type(error).__name__}: {error}. Check that there is "
                f"memory, and space in {tempfile.gettempdir()}, or run with the inline pool."
            ) from error
        _embedded = _Embedded(stack)


def is_alive() -> bool:
    """Return whether the processes run that everything else of this process's Ray depends on; True without Ray."""
    embedded = _embedded
    return embedded is None or embedded.is_alive


def _runs(daemon: psutil.Process) -> bool:
    try:
        # Nobody waits for Ray's processes, so that one that has ended stays as a zombie.
        return bool(daemon.is_running() and daemon.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def is_shared() -> bool:
    """Return whether another pool of this process still needs Ray."""
    with _lock:
        return _embedded is not None and _embedded.num_users > 1


def release() -> None:
    """Give up what :func:`acquire` gave; the last one stops Ray."""
    import ray  # noqa: PLC0415

    global _embedded
    with _lock:
        if _embedded is None:
            return
        _embedded.num_users -= 1
        if _embedded.num_users > 0:
            return
        embedded, _embedded = _embedded, None
        ray.shutdown()
        embedded.environment.close()


def _init(directory: Path, num_workers: int, object_store_bytes: int, with_gpus: bool) -> None:
    with _environment(WORKER_ENVIRONMENT), preserved_sigterm():
        # Not at the top: Ray reads its environment when it is imported.
        import ray  # noqa: PLC0415

        silence()
        if ray.is_initialized():
            raise ConfigurationError("Ray is running in this process already, and not in Sluice's care")
        ray.init(
            address="local",
            # Ray starts as many workers beforehand: Serve's controller and the board take one each.
            num_cpus=num_workers + 2,
            num_gpus=None if with_gpus else 0,
            include_dashboard=False,
            object_store_memory=object_store_bytes,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=str(directory / _FOR_RAY),
        )


def silence() -> None:
    """Send to the log what Ray would print on standard output, where it would end up in the middle of JSON."""
    import ray._private.worker as ray_worker  # noqa: PLC0415

    ray_worker.print_to_stdstream = _log_lines


def _log_lines(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    for line in data["lines"]:
        logger.info("Ray says: %s", line)


@contextlib.contextmanager
def preserved_sigterm() -> Iterator[None]:
    """Put back the SIGTERM handler that ``ray.init`` replaces. Signals belong to the main thread; elsewhere a no-op."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler: Any = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def make_directory() -> tuple[Path, IO[str]]:
    """Make a private directory, locked as long as this process lives, and remove those of processes that do not.

    Raises:
        ConfigurationError: the folder for temporary files belongs to another user.
    """
    root = Path(tempfile.gettempdir())
    if len(str(root)) + len(_DIRECTORY_PREFIX) + 8 + len(_FOR_RAY) + 1 > _LONGEST_DIRECTORY:
        root = Path("/tmp")  # noqa: S108 - mkdtemp makes the name unguessable and the directory private
    _check_root(root)
    for left in root.glob(f"{_DIRECTORY_PREFIX}*"):
        with contextlib.suppress(OSError):
            _remove_left(left)
    directory = Path(tempfile.mkdtemp(prefix=_DIRECTORY_PREFIX, dir=root))
    lock_file = (directory / _LOCK).open("a")
    fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return directory, lock_file


def _check_root(root: Path) -> None:
    status = root.stat()
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
        # Not refused: an emptyDir of Kubernetes is like that, in a pod without others.
        logger.warning(
            "folder %s: others may write into it and it has no sticky bit, so that they could put their own files in "
            "place of Ray's; `chmod +t` it, or set TMPDIR to a folder of your own",
            root,
        )
    if status.st_uid not in {0, os.geteuid()}:
        raise ConfigurationError(
            f"folder {root}: belongs to user id {status.st_uid}, who could put files in place of Ray's; set TMPDIR to "
            "a folder of your own"
        )


def _remove_left(left: Path) -> None:
    """Remove a directory that a killed process of this user has left; what others put there under its name stays."""
    folder = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(folder)
        if status.st_uid != os.geteuid():
            return
        try:
            lock = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW, dir_fd=folder)
        except FileNotFoundError:
            # A process that is just starting has not locked it yet.
            if time.time() - status.st_mtime > _START_S:
                shutil.rmtree(left, ignore_errors=True)
            return
        with open(lock, "a") as lock_file:  # noqa: PTH123 - a descriptor
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    finally:
        os.close(folder)


def remove_directory(directory: Path, lock_file: IO[str]) -> None:
    """Remove what :func:`make_directory` returned."""
    shutil.rmtree(directory, ignore_errors=True)
    lock_file.close()
