"""One shard's view of a source: the rows of the others pass by as ranges with nothing to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consumers.ports import Source, SourceHead
from schemas.positions import OffsetRange
from schemas.records import RawVideo, SkippedRange
from schemas.shards import Share
from schemas.source_mark import SourceMark


class ShardedSource:
    """Implements :class:`~consumers.ports.Source` for one share of another source.

    Every shard reads the references of all rows, which are small, and none reads another's videos.

    Args:
        source: all rows.
        share: which of them are to be done.
    """

    def __init__(self, source: Source, share: Share) -> None:
        self._source = source
        self._share = share

    def head(self) -> SourceHead:
        """Return the current end of the whole source.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        return self._source.head()

    def resume(self, source_table: str, mark: SourceMark | None) -> None:
        """Pass on what a consumer remembers of the source."""
        self._source.resume(source_table, mark)

    def removed(self) -> Iterator[RawVideo]:
        """Pass on which rows are gone."""
        return self._source.removed()

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | SkippedRange]:
        """Yield, in order, this share's rows, and ranges that hold none, or only rows of others.

        Raises:
            StoreUnavailableError: the store did not answer; what was yielded stays valid.
        """
        passed: OffsetRange | None = None
        for item in self._source.read(ranges):
            if isinstance(item, RawVideo) and not self._share.owes(item.row_id):
                end = item.row_id + 1
                if passed is not None and passed.end == item.row_id:
                    passed = OffsetRange(passed.start, end)
                    continue
                if passed is not None:
                    yield SkippedRange(passed, is_expected=True)
                passed = OffsetRange(item.row_id, end)
                continue
            if passed is not None:
                yield SkippedRange(passed, is_expected=True)
                passed = None
            yield item
        if passed is not None:
            yield SkippedRange(passed, is_expected=True)


def share_of(source: Source, share: Share) -> Source:
    """Return ``source`` as far as it is ``share``'s."""
    return source if share.is_whole else ShardedSource(source, share)
