"""Rows that a consumer knows already: those that got another row id, and those that are gone.

A row keeps its id for as long as it is not rewritten at a new place. ``CALL sys.reassign_row_id``, the materialising of
deletion vectors and ``INSERT OVERWRITE`` give rows that were there before new ids, at the end, where only new rows are
looked for. What tells them: the snapshot that brought their ids is no append, and the ledger has a row of the same
video (id and descriptor) whose own id is gone. Such a row is no new video: it goes into the ledger as moved, under a
key that names the first id, and the clips of that stay.

Rows that are gone, at whatever id they had last, are told when something other than an append has come: their clips
are taken out, and the ledger says so, as for a deleted row of a table with a primary key.

Everything is derived from the tables. The ledger is read when a row or a snapshot is met that asks for it, and then
takes 30 bytes a row for as long as that, besides 8 for each row of the raw table. A table that is only appended to is
never looked at in this way.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from consumers.errors import SourceChangedError
from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog, store_errors
from consumers.paimon.commit.ledger_index import as_ranges, of_consumer
from consumers.paimon.commit.markers import MAX_SNAPSHOTS_WALKED, read_division
from consumers.paimon.reading.known_videos import FIRST_ROW, KnownVideos, has_id
from consumers.paimon.scan import ROW_ID, stream
from consumers.paimon.snapshots import snapshot_time
from consumers.paimon.source.identity import WHAT_NOW
from consumers.paimon.source.row_source import RowIdSource
from consumers.paimon.tables import RawColumns, TableNames
from consumers.ports import SourceHead
from schemas.positions import OffsetRange
from schemas.records import BlobReference, RawVideo, RowKind, SkippedRange, VideoStatus
from schemas.shards import WHOLE, Base, Shard
from schemas.source_mark import SourceMark

_DIGEST_BYTES = 16
_DIGEST = np.dtype(f"S{_DIGEST_BYTES}")
# More than a consumer can have read and not committed.
_MAX_RECENT = 65_536
_MAX_IN_FILTER = 500
_COLUMNS = (
    "source_row_id",
    "run",
    "status",
    "source_key",
    "video_id",
    "source_uri",
    "source_offset_bytes",
    "source_length_bytes",
)
_ID_COLUMNS = ("source_row_id", "video_id", "source_uri", "source_offset_bytes", "source_length_bytes")
_NUM_COMPARED = 64
_GONE_COLUMNS = ("source_row_id", "run", "video_id", "source_uri", "source_offset_bytes", "source_length_bytes")


class KnownRows:
    """Implements :class:`~consumers.ports.Source` over a table with row ids: moved and removed rows are told as such.

    Args:
        source: the raw table.
        config: the catalog.
        names: the tables.
        consumer: whose ledger rows.
        columns: how the raw table's columns are mapped.
        shard: whose rows are told as removed, and are in hand once they were read.

    Raises:
        ConfigurationError: a table is missing.
        StoreUnavailableError: the store did not answer.
    """

    def __init__(
        self,
        source: RowIdSource,
        config: CatalogConfig,
        names: TableNames,
        consumer: str,
        columns: RawColumns | None = None,
        *,
        shard: Shard = WHOLE,
    ) -> None:
        self._source = source
        self._consumer = consumer
        self._shard = shard
        self._has_video_id = (columns or RawColumns()).video_id is not None
        catalog = open_catalog(config)
        self._raw, self._ledger, self._curated = (
            load_table(catalog, config, name) for name in (names.raw, names.ledger, names.curated)
        )
        self._swept_id = 0
        self._is_begun = False
        self._swept_at: tuple[int, int] | None = None
        # What this shard has read and may not be in the ledger yet: the digest of its video, and its first id where it
        # has moved.
        self._recent: OrderedDict[int, tuple[bytes, int | None]] = OrderedDict()

    def head(self) -> SourceHead:
        """Return the current end; see :meth:`RowIdSource.head`."""
        head = self._source.head()
        if not self._swept_id and not self._is_begun and head.snapshot_id is not None:
            self._is_begun = self._is_of_this_table()
            # What is gone before a consumer has read anything is none of its rows.
            self._swept_id = 0 if self._is_begun else head.snapshot_id
        return head if head.mark is None else replace(head, mark=replace(head.mark, swept_id=self._swept_id))

    def resume(self, source_table: str, mark: SourceMark | None) -> None:
        """Go on where a consumer was; removals are looked for after the last snapshot that was looked at."""
        self._source.resume(source_table, mark)
        self._swept_id, self._swept_at = (0 if mark is None else mark.swept_id), None
        self._is_begun = False
        self._recent.clear()

    def read(self, ranges: Sequence[OffsetRange]) -> Iterator[RawVideo | SkippedRange]:
        """Yield what the table holds, rows that were there under another id as :attr:`RowKind.MOVE`.

        Raises:
            SourceChangedError: rows have new ids, and nothing that tells which they were.
            StoreUnavailableError: the store did not answer; what was yielded stays valid.
        """
        known: KnownVideos | None = None
        for item in self._source.read(ranges):
            if isinstance(item, SkippedRange):
                yield item
                continue
            content = self._content(item.video_id, item.blob)
            first_id = None
            if self._source.is_landed(item.row_id, item.snapshot_id) is not True:
                known = known or self._load()
                first_id = self._first_id(known, item, content)
            self._remember(item.row_id, content, first_id)
            yield item if first_id is None else replace(item, row_kind=RowKind.MOVE, key=f"{FIRST_ROW}{first_id}")

    def _first_id(self, known: KnownVideos, video: RawVideo, content: bytes) -> int | None:
        if content:
            return known.first_id(content, video.row_id)
        if video.blob is None or not known.gone():
            return None
        raise SourceChangedError(
            f"table {self._source.name}: row {video.row_id} got its id by something other than an append, and has "
            "neither a video id nor a URI of its own to tell by which row it was before; map a column in "
            "raw_columns.video_id"
        )

    def removed(self) -> Iterator[RawVideo]:
        """Yield the rows of this shard that are in the ledger and no longer in the table, as deletes.

        Looks only where a snapshot has come since the last time that is no plain append. Rows whose clips are still
        there although the ledger says that they are gone come again.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        head = self._source.latest
        if head is None or head.id <= self._swept_id:
            return
        if self._swept_id and self._source.has_only_appends(self._swept_id, int(head.id)):
            self._swept_id = int(head.id)
            return
        with store_errors(f"rows that are gone from table {self._source.name}"):
            ledger_head = self._ledger.snapshot_manager().get_latest_snapshot()
            looked_at = (int(head.id), 0 if ledger_head is None else int(ledger_head.id))
            if looked_at == self._swept_at:
                return
            known = self._load()
            wanted = [row_id for row_id in known.gone() if self._shard.owns(row_id)]
            retired = known.retired.intersection(wanted)
            with_clips = self._with_clips() if retired else set()
            due = [row_id for row_id in wanted if row_id not in retired or row_id in with_clips]
            undecided = self._undecided(known, due)
            yield from self._gone([row_id for row_id in due if row_id not in undecided], head)
        self._swept_at = looked_at
        # What was read, and is gone before it is committed, comes into the ledger with its clips: look again then.
        open_rows = (row_id for row_id in self._recent if self._shard.owns(row_id) and not known.stands(row_id))
        if not undecided and all(has_id(known.ledgered, row_id) for row_id in open_rows):
            self._swept_id = int(head.id)

    def _undecided(self, known: KnownVideos, due: Sequence[int]) -> set[int]:
        """Return those of ``due`` that may stand under a new id which no shard has committed yet."""
        if not due:
            return set()
        unknown = known.standing[~np.isin(known.standing, known.ledgered)]
        unknown = unknown[~np.isin(unknown, np.fromiter(self._recent, dtype=np.int64))]
        contents = {
            self._content(item.video_id, item.blob)
            for item in self._source.read(list(as_ranges(unknown)))
            if isinstance(item, RawVideo) and self._source.is_landed(item.row_id, item.snapshot_id) is not True
        }
        found = known.row_ids[np.isin(known.contents, np.array(sorted(contents), dtype=known.contents.dtype))]
        return set(found.tolist()).intersection(due)

    def _gone(self, row_ids: Sequence[int], head: Any) -> Iterator[RawVideo]:
        """Yield rows that the ledger knows and the table does not hold as of ``head``, as deletes."""
        for start in range(0, len(row_ids), _MAX_IN_FILTER):
            part = list(row_ids[start : start + _MAX_IN_FILTER])
            newest: dict[int, Mapping[str, Any]] = {}
            batches = self._ledger_batches(_GONE_COLUMNS, partial(_among, part))
            for row in (row for batch in batches for row in batch.to_pylist()):
                if row["run"] >= newest.get(row["source_row_id"], row)["run"]:
                    newest[row["source_row_id"]] = row
            for row_id, row in sorted(newest.items()):
                yield RawVideo(
                    row_id=row_id,
                    snapshot_id=int(head.id),
                    committed_at=snapshot_time(head),
                    source_table=self._source.source_table,
                    video_id=row["video_id"],
                    blob=_blob(row),
                    row_kind=RowKind.DELETE,
                )

    def _load(self) -> KnownVideos:
        """Read the ledger and the ids that stand in the raw table, and add what was read since."""
        raw_head = self._raw.snapshot_manager().get_latest_snapshot()
        current: dict[int, int] = {}
        columns: list[tuple[NDArray[Any], ...]] = [_as_columns([])]
        for batch in self._ledger_batches(_COLUMNS, lambda it: []):
            rows = batch.to_pylist()
            columns.append(_as_columns([(row, self._content(row["video_id"], _blob(row))) for row in rows]))
            for row in rows:
                if row["status"] == VideoStatus.MOVED:
                    first_id = int(row["source_key"].removeprefix(FIRST_ROW))
                    current[first_id] = max(row["source_row_id"], current.get(first_id, 0))
        row_ids, runs, contents, is_retired, is_moved, is_curated = (
            np.concatenate(parts) for parts in zip(*columns, strict=True)
        )
        order = np.lexsort((runs, row_ids))
        order = order[np.append(row_ids[order][1:] != row_ids[order][:-1], True)] if len(order) else order
        ledgered, is_first = row_ids[order], order[~is_moved[order]]
        recent: list[tuple[int, bytes]] = []
        for row_id, (content, moved_from) in self._recent.items():
            if moved_from is not None:
                current[moved_from] = max(row_id, current.get(moved_from, 0))
            elif not has_id(ledgered, row_id):
                recent.append((row_id, content))
        first_ids = np.append(row_ids[is_first], np.array([row_id for row_id, _ in recent], dtype=np.int64))
        digests = np.append(contents[is_first], np.array([content for _, content in recent], dtype=_DIGEST))
        by_content = np.argsort(digests, kind="stable")
        ids = [self._checked(batch.column(ROW_ID)) for batch in stream(self._raw, (ROW_ID,), raw_head)]
        return KnownVideos(
            row_ids=first_ids[by_content],
            contents=digests[by_content],
            standing=np.sort(np.concatenate([np.empty(0, dtype=np.int64), *ids])),
            ledgered=ledgered,
            current=current,
            retired=set(row_ids[order[is_retired[order]]].tolist()),
            unfinished=self._unfinished(ledgered[is_curated[order]]),
        )

    def _unfinished(self, curated: NDArray[np.int64]) -> set[int]:
        """Return the curated rows that the curated table's positions do not cover, nor are in hand here.

        Of rows without clips the ledger alone tells all. Another shard may have passed over such a row since, where it
        was gone; only its clips tell then.
        """
        manager = self._curated.snapshot_manager()
        division, _ = read_division(manager, self._consumer, manager.get_latest_snapshot(), MAX_SNAPSHOTS_WALKED)
        shards = () if division is None else division.shards(self._source.source_table)
        floor = min((position.watermark for _, position in shards), default=0)
        finished = [base for share, position in shards for base in (*share.bases, Base(share.shard, position))]
        above = curated[curated >= floor].tolist()
        found = {row_id for row_id in above if not any(base.covers(row_id) for base in finished)}
        if division is not None and division.count > 1:
            found |= set(curated.tolist()) - self._with_clips()
        return found - self._recent.keys()

    def _checked(self, ids: pa.Array) -> NDArray[np.int64]:
        """Return row ids as they are; rows without one would look as if they were gone."""
        if ids.null_count:
            # Whichever rows are asked for: it raises with the file's name.
            deque(self._source.read([OffsetRange(0, 1)]), maxlen=0)
            raise SourceChangedError(f"table {self._source.name}: has rows without a row id")
        return np.asarray(ids.to_numpy(), dtype=np.int64)

    def _ledger_batches(self, columns: Sequence[str], where: Callable[[Any], list[Any]]) -> Iterator[pa.RecordBatch]:
        mine = of_consumer(self._consumer, self._source.source_table)
        head = self._ledger.snapshot_manager().get_latest_snapshot()
        yield from stream(self._ledger, columns, head, lambda it: it.and_predicates([mine(it), *where(it)]))

    def _is_of_this_table(self) -> bool:
        """Return whether the ledger has rows; where it has, the newest must be of the same videos still.

        Asked once, where no marker tells up to where rows were looked for: it may not tell either which table it was.
        """
        newest: list[tuple[int, str, BlobReference | None]] = []
        with store_errors("ledger"):
            for batch in self._ledger_batches(_ID_COLUMNS, lambda it: []):
                rows = ((row["source_row_id"], row["video_id"], _blob(row)) for row in batch.to_pylist())
                newest = heapq.nlargest(_NUM_COMPARED, [*newest, *rows], key=itemgetter(0))
        known = {row_id: (video_id, blob) for row_id, video_id, blob in newest}
        ranges = list(as_ranges(np.fromiter(known, dtype=np.int64)))
        found = [item for item in self._source.read(ranges) if isinstance(item, RawVideo)]
        others = [item for item in found if self._is_other(item, *known[item.row_id])]
        # An update changes the id or the place of a video; where nothing but the place tells, all must have changed.
        if others and (self._has_video_id or len(others) == len(found)):
            last = others[-1]
            raise SourceChangedError(
                f"table {self._source.name}: of {len(found)} rows that the ledger has {len(others)} are of other "
                f"videos (row {last.row_id} was {known[last.row_id][0]}, and is {last.video_id}): {WHAT_NOW}"
            )
        return bool(known)

    def _is_other(self, item: RawVideo, video_id: str, blob: BlobReference | None) -> bool:
        return item.blob != blob and (item.video_id != video_id or not self._has_video_id)

    def _with_clips(self) -> set[int]:
        head = self._curated.snapshot_manager().get_latest_snapshot()
        mine = of_consumer(self._consumer, self._source.source_table)
        found: set[int] = set()
        for batch in stream(self._curated, ("source_row_id",), head, mine):
            found.update(pc.unique(batch.column("source_row_id")).to_pylist())
        return found

    def _content(self, video_id: str, blob: BlobReference | None) -> bytes:
        """Return a digest of what tells a video from others, b"" where nothing does."""
        parts: list[object] = [video_id] if self._has_video_id else []
        if blob is not None and not blob.uri.startswith(self._source.location):
            parts += [blob.uri, blob.offset_bytes, blob.length_bytes]
        elif blob is not None and parts:
            # Paimon's own file, which a rewrite replaces by another.
            parts.append(blob.length_bytes)
        return hashlib.blake2b(repr(parts).encode(), digest_size=_DIGEST_BYTES).digest() if parts else b""

    def _remember(self, row_id: int, content: bytes, first_id: int | None) -> None:
        if not self._shard.owns(row_id):
            # Read and passed over: whether another shard has it in hand, or has not met it, only the ledger will tell.
            return
        self._recent[row_id] = (content, first_id)
        if len(self._recent) > _MAX_RECENT:
            self._recent.popitem(last=False)


def _as_columns(rows: Sequence[tuple[Mapping[str, Any], bytes]]) -> tuple[NDArray[Any], ...]:
    """Return row ids, runs, contents, and whether a row says that the source's row is gone, moved, or curated."""
    return (
        np.array([row["source_row_id"] for row, _ in rows], dtype=np.int64),
        np.array([row["run"] for row, _ in rows], dtype=np.int32),
        np.array([content for _, content in rows], dtype=_DIGEST),
        np.array([row["status"] == VideoStatus.RETIRED for row, _ in rows], dtype=np.bool_),
        np.array([row["status"] == VideoStatus.MOVED for row, _ in rows], dtype=np.bool_),
        np.array([row["status"] == VideoStatus.CURATED for row, _ in rows], dtype=np.bool_),
    )


def _among(row_ids: list[int], builder: Any) -> list[Any]:
    return [builder.is_in("source_row_id", row_ids)]


def _blob(row: Mapping[str, Any]) -> BlobReference | None:
    uri = row["source_uri"]
    return None if uri is None else BlobReference(uri, row["source_offset_bytes"], row["source_length_bytes"])
