"""Creating a file without overwriting one, on disk."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path


class HardLinkFolder:
    """Creates by hard link: ``link(2)`` fails when the name exists, on every local file system that has links.

    A crash leaves at most a hidden temporary file, which no reader looks at.

    Args:
        folder: created with the first file.
        before_link: called when a file is written and only the link is missing; for tests of that instant.
    """

    def __init__(self, folder: Path, before_link: Callable[[], None] | None = None) -> None:
        self._folder = folder
        self._before_link = before_link

    def create(self, name: str, content: bytes, if_: Callable[[], bool]) -> bool:
        """Create ``name`` durably, unless it exists or ``if_`` does not hold.

        Raises:
            OSError: the disk failed; the file may exist.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(name)
        try:
            _write_durably(temporary, content)
            if self._before_link is not None:
                self._before_link()
            if not if_():
                return False
            try:
                os.link(temporary, self._folder / name)
            except FileExistsError:
                return False
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(self._folder)
        return True

    def read(self, name: str) -> bytes | None:
        """Return the content of ``name``, or None where there is no such file."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether ``name`` exists."""
        return (self._folder / name).exists()

    def names(self) -> list[str]:
        """Return the names of all files in the folder."""
        return [entry.name for entry in os.scandir(self._folder)] if self._folder.is_dir() else []

    def delete(self, name: str) -> None:
        """Delete ``name``."""
        (self._folder / name).unlink()

    def replace(self, name: str, content: bytes) -> None:
        """Write ``name`` in one step, whether it exists or not."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._temporary(name)
        temporary.write_bytes(content)
        temporary.replace(self._folder / name)

    def _temporary(self, name: str) -> Path:
        return self._folder / f".{name}.{uuid.uuid4()}.tmp"


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
