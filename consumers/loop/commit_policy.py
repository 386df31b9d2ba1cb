"""When finished outcomes are committed: a frozen rule and its small memory. Pure logic, time is passed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """The bounds of one batch; whichever is reached first makes it due.

    Attributes:
        interval_s: longest time that finished progress waits for its commit, in seconds.
        max_clips: kept clips in a batch.
        max_bytes: bytes of clips and thumbnails in a batch.
        max_videos: ledger rows in a batch, which bounds batches in which everything is rejected.

    Raises:
        ValueError: a bound is negative, or a count is not positive.
    """

    interval_s: float = 10.0
    max_clips: int = 1000
    max_bytes: int = 256 * 2**20
    max_videos: int = 5000

    def __post_init__(self) -> None:
        if self.interval_s < 0:
            raise ValueError(f"commit interval_s must not be negative: {self.interval_s}")
        for name in ("max_clips", "max_bytes", "max_videos"):
            if getattr(self, name) < 1:
                raise ValueError(f"commit {name} must be 1 or more: {getattr(self, name)}")


class CommitPolicyState:
    """What has gathered since the last commit, measured against a policy."""

    def __init__(self, policy: CommitPolicy) -> None:
        self._policy = policy
        self.clear()

    def clear(self) -> None:
        """Forget everything: a batch was formed."""
        self._num_videos = 0
        self._num_clips = 0
        self._num_bytes = 0
        self._since_s: float | None = None

    def add_video(self, num_clips: int, num_bytes: int, now_s: float) -> None:
        """Count a finished video with its kept clips and their bytes."""
        self._num_videos += 1
        self._num_clips += num_clips
        self._num_bytes += num_bytes
        self.touch(now_s)

    def touch(self, now_s: float) -> None:
        """Note progress without a video (offsets that hold no row): it is committed within the interval, too."""
        if self._since_s is None:
            self._since_s = now_s

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return self._since_s is None

    def due_at_s(self) -> float | None:
        """Return the monotonic time at which the interval ends, or None when there is nothing to commit."""
        return None if self._since_s is None else self._since_s + self._policy.interval_s

    def is_due(self, now_s: float) -> bool:
        """Return whether the batch must be committed now."""
        due_at_s = self.due_at_s()
        return due_at_s is not None and (
            now_s >= due_at_s
            or self._num_clips >= self._policy.max_clips
            or self._num_bytes >= self._policy.max_bytes
            or self._num_videos >= self._policy.max_videos
        )
