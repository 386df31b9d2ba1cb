"""The curated table as an audit sees it: which clips stand there, and whether their bytes are what their rows tell."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pypaimon.table.row.blob import Blob, BlobDescriptor

from consumers.paimon.commit.ledger_index import digests
from consumers.paimon.reading.audit_report import Findings
from consumers.paimon.reading.audit_scan import AuditScan
from consumers.paimon.scan import ROW_ID
from schemas.records import CutMethod

_DIGEST = np.dtype("S16")
_Digests = NDArray[np.bytes_]

_OWNER = ("clip_id", "consumer", "source_table")
_DEEP = (ROW_ID, "clip", "num_frames", "cut_method")


@dataclass(frozen=True)
class DeepCheck:
    """How the bytes of clips are looked at.

    Attributes:
        problem: returns what is wrong with a clip, given its bytes and how many frames it should show; None if nothing.
        sample: how many clips are decoded, drawn at random; None is all.
        chance: draws them.
    """

    problem: Callable[[bytes, int], str | None]
    sample: int | None
    chance: random.Random


@dataclass(frozen=True)
class AuditedClips:
    """The clips of the curated table.

    Attributes:
        name: the table's full name.
        own: digest of the id of each clip of the consumer, sorted, (n,) S16.
        others: the same of all other clips, not sorted.
        num_checked: clips that were decoded.
    """

    name: str
    own: _Digests
    others: _Digests
    num_checked: int

    @classmethod
    def read(
        cls,
        table: Any,
        snapshot: Any | None,
        consumer: str,
        source: str,
        findings: Findings,
        deep: DeepCheck | None = None,
    ) -> AuditedClips:
        """Read the curated table once, with the bytes of at most one clip in memory at a time."""
        scan = AuditScan(table, snapshot, [*_OWNER, *(_DEEP if deep else ())])
        scan.check_files(findings, reads_blobs=deep is not None)
        own, others = [np.empty(0, dtype=_DIGEST)], [np.empty(0, dtype=_DIGEST)]
        bytes_of_clips = None if deep is None else _Bytes(scan.name, table.file_io, deep, findings)
        for batch in scan.batches():
            ids = digests(batch.column("clip_id").to_pylist())
            is_own = _is(batch, "consumer", consumer) & _is(batch, "source_table", source)
            own.append(ids[is_own])
            others.append(ids[~is_own])
            if bytes_of_clips is not None:
                bytes_of_clips.take(batch.filter(pa.array(is_own)))
        num_checked = 0 if bytes_of_clips is None else bytes_of_clips.finish()
        return cls(scan.name, np.sort(np.concatenate(own)), np.concatenate(others), num_checked)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the bytes of a clip are, and what its row tells."""

    row_id: int
    clip_id: str
    num_frames: int
    descriptor: bytes


class _Bytes:
    """Looks at the references of all clips, and at the bytes of those that are drawn."""

    def __init__(self, name: str, file_io: Any, deep: DeepCheck, findings: Findings) -> None:
        self._name = name
        self._file_io = file_io
        self._deep = deep
        self._findings = findings
        self._num_seen = self._num_checked = 0
        self._drawn: list[_Place] = []

    def take(self, batch: pa.RecordBatch) -> None:
        """Look at the clips of one batch."""
        for row_id, clip_id, num_frames, cut_method, descriptor in _rows(batch):
            if cut_method == CutMethod.REFERENCE:
                continue
            if descriptor is None:
                self._broken(row_id, clip_id, "is NULL")
            elif BlobDescriptor.deserialize(descriptor).length == 0:
                self._broken(row_id, clip_id, "is empty")
            else:
                self._draw(_Place(row_id, clip_id, num_frames, descriptor))

    def finish(self) -> int:
        """Decode those that were drawn, and return how many clips were decoded."""
        for place in self._drawn:
            self._decode(place)
        return self._num_checked

    def _draw(self, place: _Place) -> None:
        """Keep each clip with the same probability, however many there are."""
        self._num_seen += 1
        if self._deep.sample is None:
            self._decode(place)
        elif len(self._drawn) < self._deep.sample:
            self._drawn.append(place)
        else:
            index = self._deep.chance.randrange(self._num_seen)
            if index < self._deep.sample:
                self._drawn[index] = place

    def _decode(self, place: _Place) -> None:
        self._num_checked += 1
        try:
            with Blob.from_bytes(place.descriptor, self._file_io).new_input_stream() as stream:
                data = stream.read()
        except FileNotFoundError as error:
            self._broken(place.row_id, place.clip_id, f"cannot be read: {error}")
            return
        problem = self._deep.problem(data, place.num_frames)
        if problem is not None:
            self._broken(place.row_id, place.clip_id, problem)

    def _broken(self, row_id: int, clip_id: str, what: str) -> None:
        self._findings.add("clips_broken", [f"table {self._name}: row {row_id}: clip {clip_id} {what}"], 1)


def _is(batch: pa.RecordBatch, column: str, value: str) -> NDArray[np.bool_]:
    return np.array([each == value for each in batch.column(column).to_pylist()], dtype=np.bool_)


def _rows(batch: pa.RecordBatch) -> Sequence[tuple[int, str, int, str, bytes | None]]:
    columns = (ROW_ID, "clip_id", "num_frames", "cut_method", "clip")
    return list(zip(*(batch.column(name).to_pylist() for name in columns), strict=True))
