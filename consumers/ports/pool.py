"""What runs the stages, and what they read from."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from concurrent.futures import Future
from typing import Protocol

from consumers.pool_report import PoolReport, VideoProgress
from schemas.object_version import ObjectVersion
from schemas.records import BlobReference, VideoOutcome, VideoTask


class VideoProcessor(Protocol):
    """What a worker does with one video. Built inside the worker, by a picklable factory."""

    def process(self, task: VideoTask, progress: VideoProgress) -> VideoOutcome:
        """Return what became of the video. Whatever is wrong with it is an outcome; this raises nothing of the kind.

        Args:
            task: the video.
            progress: told where it stands.
        """
        ...


class WorkerPool(Protocol):
    """Processes videos, one call per video, in workers."""

    @property
    def capacity(self) -> int:
        """How many videos are worth having in flight: enough to keep every worker busy."""
        ...

    def start(self) -> None:
        """Start the workers; returns when at least one can take a video.

        Raises:
            ConfigurationError: the workers cannot be started as configured.
        """
        ...

    def submit(self, task: VideoTask) -> Future[VideoOutcome]:
        """Hand in one video; never blocks. Every future ends: with an outcome, or with :class:`WorkerDiedError`.

        A video that cannot be processed is an outcome (``VideoOutcome.failure``), not an exception. A future that ends
        with :class:`PoolLostError` says that the pool itself is gone, and so do all others: it is to be closed, and
        another to be made.
        """
        ...

    def report(self) -> PoolReport:
        """Return where every video stands that is handed in and not ended, and what waits at each stage.

        Costs nothing and never blocks: what workers elsewhere have told is a few seconds old, and the number of
        replicas twenty. Without them, and after :meth:`close`, it says less, and raises nothing.
        """
        ...

    def close(self) -> None:
        """Stop the workers. Futures that have not ended end with :class:`WorkerDiedError`. Idempotent."""
        ...


class BlobStream(io.RawIOBase, ABC):
    """A seekable stream over bytes of one version of an object, the one that was there when it was opened.

    A read raises :class:`~consumers.errors.ObjectChangedError` where it can tell that the object is another one by now.

    Attributes:
        version: of the object.
        is_whole: whether the stream is the whole object.
    """

    version: ObjectVersion
    is_whole: bool

    @abstractmethod
    def check_unchanged(self) -> None:
        """Return if everything that was read so far is of :attr:`version`.

        Raises:
            ObjectChangedError: the object was replaced, changed or deleted since it was opened.
            ObjectUnavailableError: the store did not answer.
        """


class BlobOpener(Protocol):
    """Opens the bytes behind a reference, by range."""

    def open(self, reference: BlobReference) -> BlobStream:
        """Return a stream over exactly the referenced bytes, positioned at 0; the caller closes it.

        Raises:
            UriNotAllowedError: the URI is outside the allow-list.
            ObjectNotFoundError: there is no such object.
            ObjectUnavailableError: the store did not answer.
            BadReferenceError: the reference does not fit the object (offset or length beyond its end).
        """
        ...
