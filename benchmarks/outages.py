"""A disk that behaves like a far-away store in trouble, inside the process of the service under test.

A commit's answer is lost although the snapshot was published, and then, at times, the store is away for part of a
second, so that the commit cannot be read back at once. And a publisher may go to sleep right after its snapshot has
come into being.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from pypaimon.filesystem.local_file_io import LocalFileIO

from consumers.paimon.commit.publish_disk import HardLinkFolder
from consumers.paimon.commit.publish_s3 import S3Folder

_LOST_ANSWER_RATE = 0.25
_AWAY_RATE = 0.7
_AWAY_S = (0.05, 0.8)
_REQUESTS = ("new_input_stream", "new_output_stream", "exists", "get_file_status", "list_status")
_FOLDER_REQUESTS = ("read", "exists", "names")


class Outages:
    """Decides which answers are lost and for how long the store is away.

    Args:
        seed: of the draws.
        tables: only what lies below this folder is on the troubled store.
    """

    def __init__(self, seed: int, tables: str) -> None:
        self._chance = random.Random(seed)
        self._tables = tables
        self._away_until_s = 0.0

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Trouble every request of this process inside the block."""
        with ExitStack() as stack:
            for name in _REQUESTS:
                stack.enter_context(patch.object(LocalFileIO, name, self._refusing(getattr(LocalFileIO, name))))
            for name in _FOLDER_REQUESTS:
                stack.enter_context(patch.object(HardLinkFolder, name, self._checked(getattr(HardLinkFolder, name))))
            stack.enter_context(patch.object(HardLinkFolder, "create", self._losing(HardLinkFolder.create)))
            yield

    def _refuse(self) -> None:
        if time.monotonic() < self._away_until_s:
            raise OSError("the store is away")

    def _refusing(self, request: Callable[..., Any]) -> Callable[..., Any]:
        def refused(file_io: Any, path: str, *arguments: Any) -> Any:
            if path.startswith(self._tables):
                self._refuse()
            return request(file_io, path, *arguments)

        return refused

    def _checked(self, request: Callable[..., Any]) -> Callable[..., Any]:
        def refused(folder: HardLinkFolder, *arguments: Any) -> Any:
            self._refuse()
            return request(folder, *arguments)

        return refused

    def _losing(self, create: Callable[..., bool]) -> Callable[..., bool]:
        def lost(folder: HardLinkFolder, name: str, content: bytes, if_: Callable[[], bool]) -> bool:
            is_created = create(folder, name, content, if_)
            if self._chance.random() < _LOST_ANSWER_RATE:
                if self._chance.random() < _AWAY_RATE:
                    self._away_until_s = time.monotonic() + self._chance.uniform(*_AWAY_S)
                raise OSError("the answer was lost")
            return is_created

        return lost


@contextmanager
def asleep_after_publishing(occurrence: int) -> Iterator[None]:
    """Inside the block this process stops itself right after it has published for the given time, from 1."""
    left = occurrence

    def sleeping(create: Callable[..., bool]) -> Callable[..., bool]:
        def create_and_sleep(folder: Any, *arguments: Any) -> bool:
            nonlocal left
            is_created = create(folder, *arguments)
            left -= is_created
            if is_created and left == 0:
                os.kill(os.getpid(), signal.SIGSTOP)
            return is_created

        return create_and_sleep

    with (
        patch.object(HardLinkFolder, "create", sleeping(HardLinkFolder.create)),
        patch.object(S3Folder, "create", sleeping(S3Folder.create)),
    ):
        yield
