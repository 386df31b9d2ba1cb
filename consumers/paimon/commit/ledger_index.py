"""What the ledger and curated tables say of one consumer, as arrays: the common ground of recovery and audit.

Memory is 28 bytes per ledger row, 24 per kept clip in the ledger and 16 per clip in the curated table, whatever else
the rows hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from consumers.paimon.scan import stream
from schemas.positions import OffsetRange

_DIGEST_BYTES = 16
_DIGEST = np.dtype(f"S{_DIGEST_BYTES}")
_Digests = NDArray[np.bytes_]


@dataclass(frozen=True)
class LedgerIndex:
    """The ledger rows of one consumer over one source, and their kept clips.

    Attributes:
        row_ids: source row id of each ledger row, int64.
        runs: run number of each ledger row, int32.
        keys: digest of each ledger row's source key, 16 bytes; empty where the source has no keys.
        clip_owners: for each kept clip the index of its ledger row, int64.
        clips: for each kept clip the digest of its id, 16 bytes.
        max_epoch: highest epoch in the rows, 0 without rows.
        max_sequence: highest commit sequence in the rows, 0 without rows.
        max_watermark: highest watermark in the rows, 0 where none has one.
    """

    row_ids: NDArray[np.int64]
    runs: NDArray[np.int32]
    keys: _Digests
    clip_owners: NDArray[np.int64]
    clips: _Digests
    max_epoch: int
    max_sequence: int
    max_watermark: int = 0

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "source_row_id",
        "run",
        "epoch",
        "commit_sequence",
        "clips",
        "source_key",
        "source_watermark",
    )
    """What is read of the ledger."""

    @classmethod
    def read(cls, ledger: Any, snapshot: Any | None, consumer: str, source: str) -> LedgerIndex:
        """Stream the ledger as of ``snapshot`` (None: empty) and keep what concerns ``consumer`` and ``source``."""
        return cls.of(stream(ledger, cls.COLUMNS, snapshot, of_consumer(consumer, source)))

    @classmethod
    def of(cls, rows: Iterable[pa.RecordBatch]) -> LedgerIndex:
        """Return the index of ``rows``, which have at least the columns in :attr:`COLUMNS`."""
        row_ids, runs = _Chunks(np.int64), _Chunks(np.int32)
        owners, clips, keys = (_Chunks(kind) for kind in (np.int64, _DIGEST, _DIGEST))
        num_rows = max_epoch = max_sequence = max_watermark = 0
        for batch in rows:
            row_ids.add(_numpy(batch.column("source_row_id")))
            runs.add(_numpy(batch.column("run")))
            max_epoch = max(max_epoch, pc.max(batch.column("epoch")).as_py() or 0)
            max_sequence = max(max_sequence, pc.max(batch.column("commit_sequence")).as_py() or 0)
            max_watermark = max(max_watermark, pc.max(batch.column("source_watermark")).as_py() or 0)
            keys.add(_key_digests(batch.column("source_key")))
            parents, ids = _kept_clips(batch.column("clips"))
            owners.add(parents + num_rows)
            clips.add(digests(ids))
            num_rows += batch.num_rows
        found = (row_ids.joined(), runs.joined(), keys.joined(), owners.joined(), clips.joined())
        return cls(*found, max_epoch, max_sequence, max_watermark)

    def latest(self) -> NDArray[np.bool_]:
        """Return for each ledger row whether it is of its source row's latest run, (n,) bool."""
        _, group = np.unique(self.row_ids, return_inverse=True)
        newest = np.zeros(group.max(initial=-1) + 1, dtype=np.int32)
        np.maximum.at(newest, group, self.runs)
        return np.asarray(self.runs == newest[group], dtype=np.bool_)

    def newest_versions(self, among: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return for each ledger row whether no row with the same key has a higher offset; always so without a key.

        Args:
            among: compare with these rows only, (n,) bool.
        """
        counted = np.ones(len(self.row_ids), dtype=np.bool_) if among is None else among
        _, group = np.unique(self.keys, return_inverse=True)
        newest = np.full(group.max(initial=-1) + 1, -1, dtype=np.int64)
        np.maximum.at(newest, group[counted], self.row_ids[counted])
        return np.asarray((self.keys == b"") | (self.row_ids >= newest[group]), dtype=np.bool_)


def of_consumer(consumer: str, source: str) -> Any:
    """Return the filter for rows of ``consumer`` over ``source``, for :func:`~consumers.paimon.scan.stream`."""
    return lambda builder: builder.and_predicates(
        [builder.equal("consumer", consumer), builder.equal("source_table", source)]
    )


def curated_digests(curated: Any, snapshot: Any | None, consumer: str, source: str) -> _Digests:
    """Return the digest of each clip of ``consumer`` in the curated table as of ``snapshot``, sorted, (n,) S16."""
    chunks = _Chunks(_DIGEST)
    for batch in stream(curated, ("clip_id",), snapshot, of_consumer(consumer, source)):
        chunks.add(digests(batch.column("clip_id").to_pylist()))
    found = chunks.joined()
    found.sort()
    return found


def contained(wanted: _Digests, within: _Digests) -> NDArray[np.bool_]:
    """Return for each of ``wanted`` whether it is in the sorted ``within``."""
    if len(within) == 0:
        return np.zeros(len(wanted), dtype=np.bool_)
    places = np.minimum(np.searchsorted(within, wanted), len(within) - 1)
    return np.asarray(within[places] == wanted, dtype=np.bool_)


def digests(clip_ids: Sequence[str]) -> _Digests:
    """Return a 16-byte digest per clip id: the id itself where it is 32 hexadecimal digits, as ours are."""
    return np.frombuffer(b"".join(map(_digest, clip_ids)), dtype=f"S{_DIGEST_BYTES}")


def as_ranges(offsets: NDArray[np.int64]) -> Iterator[OffsetRange]:
    """Yield the ranges that ``offsets`` (any order, repeats allowed) form."""
    ordered = np.unique(offsets)
    breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
    for part in np.split(ordered, breaks):
        if len(part):
            yield OffsetRange(int(part[0]), int(part[-1]) + 1)


def _digest(clip_id: str) -> bytes:
    if len(clip_id) == 2 * _DIGEST_BYTES:
        try:
            return bytes.fromhex(clip_id)
        except ValueError:
            pass
    return hashlib.blake2b(clip_id.encode(), digest_size=_DIGEST_BYTES).digest()


def _key_digests(column: pa.Array) -> _Digests:
    if column.null_count == len(column):
        return np.zeros(len(column), dtype=_DIGEST)
    return np.array([b"" if key is None else _digest(key) for key in column.to_pylist()], dtype=_DIGEST)


def _kept_clips(column: pa.ListArray) -> tuple[NDArray[np.int64], list[str]]:
    clips = pc.list_flatten(column)
    kept = pc.fill_null(pc.struct_field(clips, "kept"), False)
    parents = _numpy(pc.list_parent_indices(column).filter(kept)).astype(np.int64)
    return parents, pc.struct_field(clips, "clip_id").filter(kept).to_pylist()


def _numpy(column: pa.Array) -> NDArray[Any]:
    return np.asarray(column.to_numpy(zero_copy_only=False))


class _Chunks:
    """Grows an array by pieces."""

    def __init__(self, dtype: Any) -> None:
        self._pieces: list[NDArray[Any]] = [np.empty(0, dtype=dtype)]

    def add(self, piece: Iterable[Any]) -> None:
        self._pieces.append(np.asarray(piece, dtype=self._pieces[0].dtype))

    def joined(self) -> NDArray[Any]:
        return np.concatenate(self._pieces)
