"""Gathers finished outcomes into batches and gets each batch committed, however often the store is away."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from consumers.clock import Clock
from consumers.errors import StoreUnavailableError
from consumers.loop.commit_policy import CommitPolicy, CommitPolicyState
from consumers.loop.retry import StorePatience
from consumers.ports import CommitBatch, CommitReceipt, Sink
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo, SkippedRange, VideoStatus
from schemas.shards import Share
from schemas.source_mark import SourceMark


class Committer:
    """The consumer's side of the sink. Not thread-safe.

    At most one batch is *pending*: formed, and not yet acknowledged. After a store's failure exactly that batch is
    committed again, because the sink can only then tell what it has written already; what finishes meanwhile gathers
    for the next one.

    Args:
        sink: opened by :meth:`open`.
        clock: for intervals and backoff.
        policy: when a batch is due.
        patience: how long the sink may stay away.
    """

    def __init__(self, sink: Sink, clock: Clock, policy: CommitPolicy, patience: StorePatience) -> None:
        self._sink = sink
        self._clock = clock
        self._policy = CommitPolicyState(policy)
        self._patience = patience
        self._videos: list[ProcessedVideo] = []
        self._done: list[OffsetRange] = []
        self._replays: list[OffsetRange] = []
        self._pending: CommitBatch | None = None
        self._held_bytes = 0
        self._pending_bytes = 0
        self.position = Position()
        self.replays = Position()
        self.share = Share()
        self.sequence = 0
        self.source_table: str | None = None
        self.mark: SourceMark | None = None
        self.last_error: str | None = None

    def open(self) -> bool:
        """Open the sink and recover position and sequence; return False when it is to be tried again later.

        Raises:
            StoreUnavailableError: the store has been away for longer than the patience with it.
        """
        try:
            recovered = self._sink.open()
        except StoreUnavailableError as error:
            self._note_failure(error)
            return False
        self._note_success()
        self.position, self.sequence, self.share = recovered.position, recovered.sequence, recovered.share
        self.source_table, self.mark = recovered.source_table, recovered.mark
        self.replays = recovered.replays
        return True

    def add(self, video: ProcessedVideo) -> None:
        """Gather one finished video."""
        self._videos.append(video)
        self._done.append(OffsetRange(video.video.row_id, video.video.row_id + 1))
        num_kept = sum(clip.kept for clip in video.outcome.clips)
        self._held_bytes += video.outcome.held_bytes
        self._policy.add_video(
            num_kept,
            video.outcome.media_bytes,
            self._clock.monotonic_s(),
            is_removal=video.outcome.status is VideoStatus.RETIRED,
        )

    def skip(self, skipped: SkippedRange) -> None:
        """Gather offsets that hold no row, or none of this consumer's."""
        self._done.append(skipped.range)
        if skipped.is_expected:
            self._policy.passed(self._clock.monotonic_s())
        else:
            self._policy.touch(self._clock.monotonic_s())

    def replayable(self, row_ids: Collection[int]) -> frozenset[int]:
        """Return which of ``row_ids`` may be processed once more; not while a batch is pending.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        return self._sink.replayable(row_ids)

    def replay(self, offsets: Sequence[OffsetRange]) -> None:
        """Gather rows that are not finished any more, with the next commit."""
        self._replays += offsets
        self._policy.touch(self._clock.monotonic_s())

    def holds(self, row_ids: Collection[int]) -> frozenset[int]:
        """Return which of ``row_ids`` are finished and not committed."""
        return frozenset(row_ids).intersection(video.video.row_id for video in self._videos)

    @property
    def is_empty(self) -> bool:
        """Whether everything gathered is committed."""
        return self._pending is None and self._policy.is_empty

    @property
    def is_pending(self) -> bool:
        """Whether a batch waits for a store that did not take it."""
        return self._pending is not None

    @property
    def is_due(self) -> bool:
        """Whether the policy asks for a commit now, whatever else there is to do."""
        return self._policy.is_due(self._clock.monotonic_s())

    def is_early_due(self, *, is_idle: bool) -> bool:
        """Return whether the policy asks for a commit, now that nothing is read; ``is_idle``: nothing is to be done."""
        is_early = is_idle or self._policy.holds_removal
        return self._policy.is_due(self._clock.monotonic_s(), is_early=is_early)

    @property
    def num_videos(self) -> int:
        """Videos finished and not committed."""
        return len(self._videos) + (len(self._pending.videos) if self._pending else 0)

    @property
    def num_bytes(self) -> int:
        """Bytes of clips and thumbnails in memory and not committed; staged clips take none."""
        return self._held_bytes + self._pending_bytes

    def wake_at_s(self, *, is_idle: bool = False) -> float | None:
        """Return the monotonic time of the next commit or of the next try, or None when there is nothing to commit."""
        if self._patience.is_down:
            return self._patience.next_try_s
        return self._policy.due_at_s(is_early=is_idle or self._policy.holds_removal)

    def commit(self, at_once: bool = False) -> tuple[CommitBatch, CommitReceipt] | None:
        """Commit the pending batch, or form one and commit it; return None when nothing came of it for now.

        Args:
            at_once: do not wait for the end of a backoff, and let a failure be the last.

        Raises:
            FencedError: a newer copy of this consumer has taken over.
            StoreUnavailableError: the store has been away for longer than the patience with it, or ``at_once``.
        """
        if self.is_empty or (not at_once and self._clock.monotonic_s() < self._patience.next_try_s):
            return None
        batch = self._pending or self._form_batch()
        try:
            receipt = self._sink.commit(batch)
        except StoreUnavailableError as error:
            self._note_failure(error)
            if at_once:
                raise
            return None
        self._note_success()
        self._pending, self._pending_bytes = None, 0
        self.position, self.sequence = batch.position, receipt.sequence
        self.share = self.share.without(batch.replays.ranges())
        return batch, receipt

    def _form_batch(self) -> CommitBatch:
        position = self.position.union(self._done)
        if self._replays:
            position = position.without(self._replays)
        replays = Position.from_ranges(self._replays)
        self._pending = CommitBatch(tuple(self._videos), position, self.mark, replays)
        self._pending_bytes, self._held_bytes = self._held_bytes, 0
        self._videos, self._done, self._replays = [], [], []
        self._policy.formed(self._clock.monotonic_s())
        return self._pending

    def _note_failure(self, error: StoreUnavailableError) -> None:
        self.last_error = str(error)
        if not self._patience.failed(self._clock.monotonic_s()):
            raise error

    def _note_success(self) -> None:
        self._patience.succeeded()
        self.last_error = None
