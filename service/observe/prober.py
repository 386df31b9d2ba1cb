"""Measures how far behind a consumer is, on a thread and clock of its own: also while it is paused, failed or gone."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from consumers.clock import Clock
from consumers.errors import SluiceError
from consumers.lag import Lag, RateWindows, Throughput, Totals, measure_lag, num_waiting, oldest_waiting
from consumers.ports import CommitMark, ProgressReader, SourceHead
from schemas.positions import OffsetRange, Position
from service.observe.activity import CommittedTotals

_log = logging.getLogger(__name__)

_HISTORY_S = 3600.0
_HISTORY_STEP_S = 10.0
_SIZES_FOR_S = 300.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One measurement.

    Attributes:
        at: when.
        head: the end of the source.
        last_commit: the newest commit of this process's shard; None when there is none.
        commits: the newest commit of each of the consumer's shards.
        lag: how far behind the consumer is, all shards of it.
        throughput: rates over 1, 5 and 15 minutes.
        arrived_at: commit time of the newest row; None for an empty source.
    """

    at: datetime
    head: SourceHead
    last_commit: CommitMark | None
    commits: tuple[CommitMark, ...]
    lag: Lag
    throughput: tuple[Throughput, ...]
    arrived_at: datetime | None

    @property
    def position(self) -> Position:
        """What this process's shard has committed."""
        return Position() if self.last_commit is None else self.last_commit.position

    @property
    def watermark(self) -> int:
        """The offset below which all shards have committed everything."""
        return min((each.position.watermark for each in self.commits), default=0)

    def num_waiting(self, commit: CommitMark) -> int:
        """Return how many rows the shard of ``commit`` has to do."""
        return num_waiting(self.head, (commit,))

    @property
    def committed_at(self) -> datetime | None:
        """When the shard last committed that has let its work wait the longest; any shard's where none has work."""
        times = [each.committed_at for each in self.commits if self.num_waiting(each)]
        return min(times) if times else max((each.committed_at for each in self.commits), default=None)


@dataclass(frozen=True, slots=True)
class LagPoint:
    """One point of the lag's history."""

    at: datetime
    records: int
    seconds: float
    records_per_s: float


class Prober:
    """Probes again and again, and keeps the last hour.

    Args:
        reader: made in the probing thread, and used there alone.
        clock: time.
        totals: what this process has committed, for the rates of videos and clips.
        interval_s: time between two probes.
        on_probe: told of each one, None for a probe that failed.
    """

    def __init__(
        self,
        reader: Callable[[], ProgressReader],
        clock: Clock,
        totals: Callable[[], CommittedTotals],
        *,
        interval_s: float = 2.0,
        on_probe: Callable[[Probe | None], None] = lambda probe: None,
    ) -> None:
        self._make_reader = reader
        self._reader: ProgressReader | None = None
        self._clock = clock
        self._totals = totals
        self._interval_s = interval_s
        self._on_probe = on_probe
        self._windows = RateWindows()
        self._history: deque[LagPoint] = deque(maxlen=int(_HISTORY_S / _HISTORY_STEP_S))
        self._last: Probe | None = None
        self._mean_bytes: float | None = None
        self._sized_at_s: float | None = None
        self._arrival: tuple[int, datetime | None] = (0, None)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.last_error: str | None = None
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    @property
    def last(self) -> Probe | None:
        """The last measurement that succeeded; its ``at`` says how old it is."""
        return self._last

    def history(self) -> list[LagPoint]:
        """Return the last hour, one point every ten seconds, the oldest first."""
        with self._lock:
            return list(self._history)

    def probe_once(self) -> Probe:
        """Measure now.

        Raises:
            SluiceError: a table is missing, or the store did not answer.
        """
        if self._reader is None:
            self._reader = self._make_reader()
        reader = self._reader
        # The position first: what is committed in between shows as lag, and never as less than none.
        last_commit, commits = reader.last_commit(), reader.commits()
        head = reader.head()
        first = oldest_waiting(head, commits)
        gap = None if first is None else OffsetRange(first, head.next_offset)
        oldest = None if first is None else reader.origin(first)
        now, now_s = self._clock.now(), self._clock.monotonic_s()
        arrived = head.next_offset if head.num_rows is None else head.num_rows
        done = self._totals()
        mean_bytes = self._mean_size(reader, done, gap, now_s)
        retention = None if gap is None else reader.retention(gap.start)
        lag = measure_lag(head, commits, oldest, mean_bytes, now, retention)
        self._windows.add(
            now_s,
            Totals(
                records=arrived - lag.records,
                arrived=arrived,
                videos=done.num_videos,
                clips=done.num_clips,
                video_s=done.video_s,
                num_bytes=done.num_bytes,
            ),
        )
        rates = self._windows.rates(now_s)
        probe = Probe(now, head, last_commit, commits, lag, rates, self._newest_arrival(reader, head))
        self._remember(probe)
        return probe

    def start(self) -> None:
        """Begin to probe in a thread."""
        self._thread.start()

    def close(self, timeout_s: float | None = None) -> bool:
        """End, and wait for it; return whether it came. A store that hangs may hold up the last look."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the probing thread lives."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._on_probe(self.probe_once())
                self.last_error = None
            except Exception as error:
                if not isinstance(error, SluiceError):
                    _log.exception("the lag could not be measured")
                self.last_error = str(error) or type(error).__name__
                self._on_probe(None)
            self._stop.wait(self._interval_s)

    def _remember(self, probe: Probe) -> None:
        with self._lock:
            self._last = probe
            last = self._history[-1] if self._history else None
            if last is None or (probe.at - last.at).total_seconds() >= _HISTORY_STEP_S:
                self._history.append(
                    LagPoint(probe.at, probe.lag.records, probe.lag.seconds, probe.throughput[0].records_per_s)
                )

    def _mean_size(
        self, reader: ProgressReader, done: CommittedTotals, gap: OffsetRange | None, now_s: float
    ) -> float | None:
        """Return the mean size of what this process has committed, or of a sample of the backlog before that.

        The sample costs as much as there are manifests, so it is taken once in five minutes.
        """
        if done.num_bytes:
            return done.num_bytes / done.num_videos
        is_old = self._sized_at_s is None or now_s - self._sized_at_s >= _SIZES_FOR_S
        if gap is not None and is_old:
            self._mean_bytes = reader.mean_bytes(gap)
            self._sized_at_s = now_s
        return self._mean_bytes

    def _newest_arrival(self, reader: ProgressReader, head: SourceHead) -> datetime | None:
        if head.next_offset != self._arrival[0]:
            newest = reader.origin(head.next_offset - 1) if head.next_offset else None
            self._arrival = (head.next_offset, None if newest is None else newest.committed_at)
        return self._arrival[1]
