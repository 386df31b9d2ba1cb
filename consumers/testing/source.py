"""A source in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from consumers.errors import StoreUnavailableError
from consumers.ports import SourceHead
from consumers.testing.outcomes import make_video
from schemas.positions import OffsetRange
from schemas.records import (
    RawVideo,
    SkippedRange,
)
from schemas.source_mark import SourceMark

_START = datetime(2026, 1, 1, tzinfo=UTC)


class FakeSource:
    """A raw table in memory.

    Attributes:
        num_pulled: items that readers have pulled so far.
        num_head_reads: looks at the head so far.
    """

    def __init__(self, num_rows: int = 0) -> None:
        self._rows: list[RawVideo | None] = []
        self._snapshot_id = 0
        self._failures = 0
        self._lock = threading.Lock()
        self.num_pulled = 0
        self.num_head_reads = 0
        if num_rows:
            self.append(*(make_video(row_id) for row_id in range(num_rows)))

    def append(self, *videos: RawVideo) -> None:
        """Commit rows; their ``row_id`` must be the next ones."""
        with self._lock:
            for video in videos:
                if video.row_id != len(self._rows):
                    raise ValueError(f"the next row id is {len(self._rows)}, not {video.row_id}")
                self._rows.append(video)
            self._snapshot_id += 1

    def delete(self, *offsets: int) -> None:
        """Delete rows; their offsets are skipped from now on."""
        with self._lock:
            for offset in offsets:
                self._rows[offset] = None
            self._snapshot_id += 1

    def fail_next(self, num_calls: int) -> None:
        """Let the next ``num_calls`` looks or pulls meet a store that does not answer."""
        with self._lock:
            self._failures = num_calls

    def _answer(self) -> None:
        if self._failures > 0:
            self._failures -= 1
            raise StoreUnavailableError("the fake source does not answer")

    def head(self) -> SourceHead:
        """Return the end of the rows.

        Raises:
            StoreUnavailableError: a failure was asked for.
        """
        with self._lock:
            self.num_head_reads += 1
            self._answer()
            if not self._snapshot_id:
                return SourceHead(None, 0, None)
            return SourceHead(self._snapshot_id, len(self._rows), _START)

    def resume(self, source_table: str, mark: SourceMark | None) -> None:
        """Accept everything: these rows are never replaced by others."""

    def removed(self) -> Iterator[RawVideo]:
        """Yield nothing: nobody looks for rows that are gone."""
        return iter(())

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | SkippedRange]:
        """Yield a row, or the longest range without rows, for every offset in ``ranges`` below the head.

        Raises:
            StoreUnavailableError: a failure was asked for.
        """
        for item in ranges:
            offset = item.start
            while offset < min(item.end, len(self._rows)):
                with self._lock:
                    self._answer()
                    self.num_pulled += 1
                    row = self._rows[offset]
                    end = offset + 1
                    while row is None and end < min(item.end, len(self._rows)) and self._rows[end] is None:
                        end += 1
                yield row if row is not None else SkippedRange(OffsetRange(offset, end))
                offset = end
