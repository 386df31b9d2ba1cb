"""The ledger as an audit sees it: which videos it tells of, and the raw table held against it.

What a raw row and a ledger row tell of a video is compared as 16 bytes of a digest over its id and its URI. URIs of
Paimon's own files are left out: a compaction gives a managed BLOB another one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from consumers.paimon.commit.ledger_index import LedgerIndex, digests
from consumers.paimon.reading.audit_report import Findings
from consumers.paimon.reading.audit_scan import AuditScan
from consumers.paimon.reading.known_videos import FIRST_ROW
from consumers.paimon.scan import ROW_ID
from consumers.paimon.source.raw_rows import read_raw_row
from consumers.paimon.tables import RawColumns, VideoColumnKind, check_raw_table
from schemas.records import RowKind

_DIGEST = np.dtype("S16")
_Digests = NDArray[np.bytes_]
_MOVED = ("source_key", "source_row_id")
_TOLD = ("video_id", "source_uri", "row_kind")
# Scores are most of a clip in the ledger.
_PARTS = {"clips": ("clips.list.element.clip_id", "clips.list.element.kept")}


@dataclass(frozen=True)
class AuditedLedger:
    """The consumer's ledger rows.

    Attributes:
        name: the table's full name.
        source: the raw table's full name.
        index: rows and kept clips.
        contents: digest of the video that each row tells of, (n,) S16.
        is_delete: whether the row tells that its video is gone, (n,) bool.
        sequences: number of the commit that wrote each row, (n,) int64.
        moved_to: the newest id of each row that got another.
    """

    name: str
    source: str
    index: LedgerIndex
    contents: _Digests
    is_delete: NDArray[np.bool_]
    sequences: NDArray[np.int64]
    moved_to: Mapping[int, int]

    @classmethod
    def read(
        cls, table: Any, snapshot: Any | None, consumer: str, source: str, own_files: str, findings: Findings
    ) -> AuditedLedger:
        """Read the ledger once.

        Args:
            table: the pypaimon table.
            snapshot: which state of it.
            consumer: whose rows.
            source: of which raw table.
            own_files: where the raw table's own files lie.
            findings: where missing files go.
        """
        columns = list(dict.fromkeys((*LedgerIndex.COLUMNS, *_TOLD)))
        scan = AuditScan(table, snapshot, columns, {"consumer": consumer, "source_table": source}, _PARTS)
        scan.check_files(findings)
        contents: list[_Digests] = [np.empty(0, dtype=_DIGEST)]
        deletes: list[NDArray[np.bool_]] = [np.empty(0, dtype=np.bool_)]
        sequences: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
        moved_to: dict[int, int] = {}

        def rows() -> Iterator[pa.RecordBatch]:
            for batch in scan.batches():
                told = zip(batch.column("video_id").to_pylist(), batch.column("source_uri").to_pylist(), strict=True)
                contents.append(_contents(told, own_files))
                kinds = batch.column("row_kind").to_pylist()
                deletes.append(np.array([kind == RowKind.DELETE.value for kind in kinds], dtype=np.bool_))
                sequences.append(np.asarray(batch.column("commit_sequence").to_numpy(), dtype=np.int64))
                moved = batch.filter(pc.equal(batch.column("row_kind"), RowKind.MOVE.value))
                for key, row_id in zip(*(moved.column(name).to_pylist() for name in _MOVED), strict=True):
                    first_id = int(key.removeprefix(FIRST_ROW))
                    moved_to[first_id] = max(row_id, moved_to.get(first_id, row_id))
                yield batch

        index = LedgerIndex.of(rows())
        return cls(
            scan.name,
            source,
            index,
            np.concatenate(contents),
            np.concatenate(deletes),
            np.concatenate(sequences),
            moved_to,
        )


class RawReader:
    """Reads what the rows of a raw table tell, past the sources of the consumer.

    Args:
        table: the pypaimon table.
        columns: how its columns are mapped.
    """

    def __init__(self, table: Any, columns: RawColumns) -> None:
        self._table = table
        self._columns = columns
        self._kind: VideoColumnKind = check_raw_table(table, columns)
        self._keys = tuple(table.primary_keys)
        self.own_files = str(table.table_path)

    def rows(self, snapshot: Any | None, findings: Findings) -> Iterator[tuple[NDArray[np.int64], _Digests]]:
        """Yield row ids and what the rows tell, batch by batch."""
        scan = AuditScan(self._table, snapshot, [ROW_ID, *self._needed()])
        scan.check_files(findings)
        for batch in scan.batches():
            row_ids = np.asarray(batch.column(ROW_ID).to_numpy(zero_copy_only=False), dtype=np.int64)
            yield row_ids, self._told(batch, row_ids.tolist())

    def standing(self, snapshot: Any | None, findings: Findings) -> Iterator[tuple[_Digests, _Digests, Any]]:
        """Yield the keys that stand, what their rows tell, both as digests, and the split that they are of.

        Where the table has no keys, what a row tells stands in their place.
        """
        scan = AuditScan(self._table, snapshot, list(dict.fromkeys((*self._keys, *self._needed()))))
        scan.check_files(findings)
        for batch, split in scan.batches_and_splits():
            told = self._told(batch, [None] * batch.num_rows)
            if self._keys:
                parts = zip(*(batch.column(name).to_pylist() for name in self._keys), strict=True)
                keys = digests([json.dumps([str(part) for part in each]) for each in parts])
                yield keys, told, split
            else:
                yield told, told, split

    def _needed(self) -> Sequence[str]:
        named = (self._columns.video_id, self._columns.video)
        return [name for name in dict.fromkeys(named) if name is not None]

    def _told(self, batch: pa.RecordBatch, row_ids: Sequence[int | None]) -> _Digests:
        only = RawColumns(self._columns.video_id, self._columns.video, None, None, ())

        def told() -> Iterator[tuple[str | None, str | None]]:
            for row, row_id in zip(_as_rows(batch), row_ids, strict=True):
                found = read_raw_row(row, only, self._kind)
                video_id = found.video_id
                if video_id is None and row_id is not None:
                    video_id = str(row_id)
                yield video_id, None if found.blob is None else found.blob.uri

        return _contents(told(), self.own_files)


def compare_rows(
    reader: RawReader, snapshot: Any | None, ledger: AuditedLedger, findings: Findings
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hold the raw table's rows against the ledger, by row id and by what they tell.

    Returns:
        The row ids that exist, and those of them without a ledger row, both sorted, int64.
    """
    index = ledger.index
    latest = np.flatnonzero(index.latest())
    order = latest[np.argsort(index.row_ids[latest], kind="stable")]
    known, contents = index.row_ids[order], ledger.contents[order]
    chunks: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    for row_ids, told in reader.rows(snapshot, findings):
        chunks.append(row_ids)
        if len(known) == 0:
            continue
        places = np.minimum(np.searchsorted(known, row_ids), len(known) - 1)
        is_other = (known[places] == row_ids) & (contents[places] != told)
        if is_other.any():
            others = row_ids[is_other].tolist()
            findings.add("mismatched", (_other_row(ledger, row_id) for row_id in others), len(others))
    existing = np.unique(np.concatenate(chunks))
    return existing, np.setdiff1d(existing, known, assume_unique=False)


def _other_row(ledger: AuditedLedger, row_id: int) -> str:
    return f"table {ledger.name}: its row for row {row_id} of {ledger.source} tells of another video_id or URI"


def _contents(told: Any, own_files: str) -> _Digests:
    parts = []
    for video_id, uri in told:
        shown = "" if uri is None or uri.startswith(own_files) else uri
        parts.append(hashlib.blake2b(f"{video_id}\0{shown}".encode(), digest_size=16).digest())
    return np.frombuffer(b"".join(parts), dtype=_DIGEST)


def _as_rows(batch: pa.RecordBatch) -> Iterator[Mapping[str, Any]]:
    columns = [column.to_pylist() for column in batch.columns]
    for values in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, values, strict=True))
