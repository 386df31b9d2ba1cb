"""Small objects beside the control table that are read and replaced as a whole: to write one commits nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from consumers.media.allow_list import local_path
from consumers.paimon.catalog import store_errors
from consumers.paimon.commit.publish_disk import HardLinkFolder

# HDFS and the like overwrite in place, and a reader may meet an object that is half written.
_READS, _BETWEEN_READS_S = 3, 0.05

Parsed = TypeVar("Parsed")


class SmallObject:
    """One object.

    Args:
        file_io: of the table in whose folder it lies.
        path: where.
        what: what it is, for messages.
    """

    def __init__(self, file_io: Any, path: str, what: str) -> None:
        self._file_io = file_io
        self._path = path
        self._what = what

    def read(self, parse: Callable[[str], Parsed]) -> Parsed | None:
        """Return what ``parse`` makes of it; None where there is none, or one that a dead process left half written.

        Args:
            parse: raises :class:`ValueError` for what is not whole.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        for _ in range(_READS):
            with store_errors(self._what):
                try:
                    text = self._file_io.read_file_utf8(self._path)
                except FileNotFoundError:
                    return None
            try:
                return parse(text)
            except ValueError:
                time.sleep(_BETWEEN_READS_S)
        return None

    def write(self, text: str) -> None:
        """Put ``text`` in its place.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(self._what):
            path = local_path(self._path)
            if path is None:
                self._file_io.overwrite_file_utf8(self._path, text)
            else:
                # In one step: nobody must meet half of it.
                HardLinkFolder(path.parent).replace(path.name, text.encode())

    def delete(self) -> None:
        """Remove it.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        with store_errors(self._what):
            try:
                self._file_io.delete(self._path)
            except FileNotFoundError:
                return
