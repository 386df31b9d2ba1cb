"""When finished outcomes are committed: a frozen rule and its small memory. Pure logic, time is passed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """The bounds of one batch; whichever is reached first makes it due.

    Where nothing else is to be done just now, or clips are to go, a batch is due early, which is at once as long as
    there is a commit left for that: ``max_early`` of them in a row, and one more with each interval since. So a lone
    video appears quickly, and however videos trickle in, there are no more commits in a time than intervals in it and
    ``max_early``, but for those that the bounds on a batch ask for.

    Attributes:
        interval_s: longest time that finished progress waits for its commit, in seconds.
        max_clips: kept clips in a batch.
        max_bytes: bytes of clips and thumbnails in a batch.
        max_videos: ledger rows in a batch, which bounds batches in which everything is rejected.
        max_early: commits in a row that need not wait.
        passed_interval_s: as ``interval_s``, where there is nothing but offsets that held no work for this consumer.

    Raises:
        ValueError: a bound is negative, or a count is not positive.
    """

    interval_s: float = 10.0
    max_clips: int = 1000
    max_bytes: int = 256 * 2**20
    max_videos: int = 5000
    max_early: int = 4
    passed_interval_s: float = 600.0

    def __post_init__(self) -> None:
        for name in ("interval_s", "passed_interval_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"commit {name} must not be negative: {getattr(self, name)}")
        for name in ("max_clips", "max_bytes", "max_videos", "max_early"):
            if getattr(self, name) < 1:
                raise ValueError(f"commit {name} must be 1 or more: {getattr(self, name)}")


class CommitPolicyState:
    """What has gathered since the last commit, measured against a policy.

    Attributes:
        holds_removal: whether clips are to go.
    """

    def __init__(self, policy: CommitPolicy) -> None:
        self._policy = policy
        self._num_early = float(policy.max_early)
        self._counted_at_s = float("-inf")
        self._begin()

    def _begin(self) -> None:
        self._num_videos = 0
        self._num_clips = 0
        self._num_bytes = 0
        self._since_s: float | None = None
        self._passed_since_s: float | None = None
        self.holds_removal = False

    def formed(self, now_s: float) -> None:
        """Forget everything: a batch was formed, which counts as a commit."""
        self._num_early = max(0.0, self._early_at(now_s) - 1)
        self._counted_at_s = now_s
        self._begin()

    def add_video(self, num_clips: int, num_bytes: int, now_s: float, *, is_removal: bool = False) -> None:
        """Count a finished video with its kept clips and their bytes; of a removal clips are to go."""
        self._num_videos += 1
        self._num_clips += num_clips
        self._num_bytes += num_bytes
        self.holds_removal |= is_removal
        self.touch(now_s)

    def touch(self, now_s: float) -> None:
        """Note progress without a video (rows that are gone): it is committed within the interval, too."""
        if self._since_s is None:
            self._since_s = now_s

    def passed(self, now_s: float) -> None:
        """Note offsets that held nothing to do, and that nobody waits for."""
        if self._passed_since_s is None:
            self._passed_since_s = now_s

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return self._since_s is None and self._passed_since_s is None

    def due_at_s(self, *, is_early: bool = False) -> float | None:
        """Return the monotonic time at which the batch is due, or None when there is nothing to commit.

        Args:
            is_early: it need not wait, as long as there are commits left for that.
        """
        policy, times_s = self._policy, []
        if self._passed_since_s is not None:
            times_s.append(self._passed_since_s + max(policy.interval_s, policy.passed_interval_s))
        if self._since_s is not None:
            times_s.append(self._since_s + policy.interval_s)
            if is_early:
                times_s.append(max(self._since_s, self._next_early_s()))
        return min(times_s, default=None)

    def is_due(self, now_s: float, *, is_early: bool = False) -> bool:
        """Return whether the batch must be committed now."""
        due_at_s = self.due_at_s(is_early=is_early)
        return due_at_s is not None and (
            now_s >= due_at_s
            or self._num_clips >= self._policy.max_clips
            or self._num_bytes >= self._policy.max_bytes
            or self._num_videos >= self._policy.max_videos
        )

    def _early_at(self, now_s: float) -> float:
        """Return how many commits need not wait, as of ``now_s``."""
        if self._policy.interval_s == 0:
            return float(self._policy.max_early)
        since_s = now_s - self._counted_at_s
        return min(float(self._policy.max_early), self._num_early + since_s / self._policy.interval_s)

    def _next_early_s(self) -> float:
        """Return when there is a commit that need not wait."""
        return self._counted_at_s + max(0.0, 1 - self._num_early) * self._policy.interval_s
