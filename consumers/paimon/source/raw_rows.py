"""What the columns of a raw row say, whichever way the row was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pypaimon.table.row.blob import BlobDescriptor

from consumers.paimon.tables import RawColumns, VideoColumnKind
from schemas.records import WHOLE_OBJECT, BlobReference


@dataclass(frozen=True, slots=True)
class RawRow:
    """The mapped columns of one row. ``defect`` says why there is no ``blob``, where there is none."""

    video_id: str | None
    blob: BlobReference | None
    size_bytes: int | None
    etag: str | None
    metadata: Mapping[str, str]
    defect: str | None


def read_raw_row(row: Mapping[str, Any], columns: RawColumns, kind: VideoColumnKind) -> RawRow:
    """Return what ``row`` says.

    Args:
        row: values by column.
        columns: how the columns are mapped.
        kind: what the video column holds.
    """
    found = _reference(row[columns.video], kind, columns.video)
    blob = found if isinstance(found, BlobReference) else None
    size = row[columns.size_bytes] if columns.size_bytes else None
    if size is None and blob is not None and blob.length_bytes != WHOLE_OBJECT:
        size = blob.length_bytes
    video_id = row[columns.video_id] if columns.video_id else None
    return RawRow(
        video_id=None if video_id is None else str(video_id),
        blob=blob,
        size_bytes=size,
        etag=row[columns.etag] if columns.etag else None,
        metadata=_metadata(row, columns.metadata),
        defect=found if isinstance(found, str) else None,
    )


def _reference(value: Any, kind: VideoColumnKind, column: str) -> BlobReference | str:
    """Return the reference, or why there is none."""
    if value is None:
        return f"column {column} is null"
    if kind is VideoColumnKind.URI:
        return BlobReference(value) if value.strip() else f"column {column} is an empty URI"
    descriptor = BlobDescriptor.parse_if_serialized(bytes(value))
    if descriptor is None:
        return f"column {column} holds {len(value)} bytes that are not a serialized BlobDescriptor"
    if not descriptor.uri or descriptor.offset < 0 or descriptor.length < WHOLE_OBJECT:
        return (
            f"column {column} holds a descriptor out of range: URI {descriptor.uri!r}, offset {descriptor.offset}, "
            f"length {descriptor.length}"
        )
    return BlobReference(descriptor.uri, descriptor.offset, descriptor.length)


def _metadata(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for column in columns:
        value = row[column]
        if isinstance(value, list) and all(isinstance(item, tuple) for item in value):
            metadata.update((str(key), str(item)) for key, item in value if item is not None)
        elif value is not None:
            metadata[column] = str(value)
    return metadata
