"""What memory the container has that this process runs in: cgroup v1 and v2, and the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = "sys/fs/cgroup"
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The memory that all processes here have together.

    Attributes:
        num_bytes: how much.
        is_container: whether a cgroup says so; else it is the machine's.
    """

    num_bytes: int
    is_container: bool


def memory_limit(root: Path = Path("/")) -> MemoryLimit:
    """Return the smallest limit of the cgroups that this process is in, or the machine's memory where none is smaller.

    Limits nest: that of each cgroup above counts as well. A container may see its own cgroup as the root of all, or,
    by its path, one that is not there; then the root is its own.

    Args:
        root: of the file system, which holds ``proc`` and ``sys``.
    """
    machine_bytes = _machine_bytes(root)
    limits = [limit for folder, name in _folders(root) if (limit := _read(folder / name)) is not None]
    smallest = min(limits, default=_NO_LIMIT)
    return MemoryLimit(smallest, True) if smallest < machine_bytes else MemoryLimit(machine_bytes, False)


def _folders(root: Path) -> list[tuple[Path, str]]:
    """Return the folder of each cgroup that bounds this process, with the file in it that tells the limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            for mount in (root / _CGROUPS, root / _CGROUPS / "unified"):
                found += [(folder, "memory.max") for folder in _upwards(mount, path)]
        elif "memory" in controllers.split(","):
            mount = root / _CGROUPS / "memory"
            found += [(folder, "memory.limit_in_bytes") for folder in _upwards(mount, path)]
    return found


def _upwards(mount: Path, path: str) -> list[Path]:
    below = mount / path.strip("/")
    parts = [below, *below.parents] if ".." not in Path(path).parts else [mount]
    return [folder for folder in parts if folder == mount or mount in folder.parents]


def _read(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    # v2 says "max", v1 a number that no machine has.
    return int(text) if text.isdecimal() and int(text) < _NO_LIMIT else None


def _machine_bytes(root: Path) -> int:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
