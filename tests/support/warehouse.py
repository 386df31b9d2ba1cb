"""Small real warehouses for tests: raw rows, made-up outcomes, and what ended up in the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
from pypaimon import Schema
from pypaimon.table.row.blob import BlobDescriptor
from pypaimon.write.table_delete import TableDeleteByRowId

from consumers.paimon.catalog import CatalogConfig, load_table, open_catalog
from consumers.paimon.reading.audit_report import AuditReport
from consumers.paimon.scan import stream
from consumers.paimon.tables import TableNames, create_tables
from consumers.ports import CommitBatch
from schemas.positions import OffsetRange, Position
from schemas.profile import Profile, clip_id
from schemas.records import (
    MOTION_MEAN_MAGNITUDE,
    BlobReference,
    ClipMedia,
    ClipOutcome,
    CutMethod,
    Failure,
    FailureKind,
    ProcessedVideo,
    RawVideo,
    Score,
    Span,
    Stage,
    VideoOutcome,
)
from schemas.tables import RAW

NAMES = TableNames()
PROFILE = Profile()
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def make_warehouse(folder: Path) -> CatalogConfig:
    config = CatalogConfig({"warehouse": str(folder)}, "db")
    create_tables(open_catalog(config, create=True), config, NAMES)
    return config


def table(config: CatalogConfig, name: str) -> Any:
    return load_table(open_catalog(config), config, name)


def append(config: CatalogConfig, name: str, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    builder = table(config, name).new_batch_write_builder()
    writer, commit = builder.new_write(), builder.new_commit()
    writer.write_arrow(pa.Table.from_pylist(rows, schema=schema))
    commit.commit(writer.prepare_commit())
    writer.close()
    commit.close()


def append_raw(config: CatalogConfig, names: Iterable[str]) -> None:
    rows = [
        {
            "video_id": name,
            "uri": f"file:///videos/{name}.mp4",
            "size_bytes": 1000,
            "etag": f"etag-{name}",
            "landed_at": AT,
            "video": BlobDescriptor(f"file:///videos/{name}.mp4", 0, -1).serialize(),
            "metadata": [("camera", "left")],
        }
        for name in names
    ]
    append(config, NAMES.raw, rows, RAW.schema)


def create_raw(config: CatalogConfig, name: str, schema: pa.Schema, options: dict[str, str]) -> None:
    catalog = open_catalog(config, create=True)
    catalog.create_database(config.database, True)
    catalog.create_table(f"{config.database}.{name}", Schema.from_pyarrow_schema(schema, options=options), False)


def raw_video(row_id: int, source: str = "db.raw_videos") -> RawVideo:
    return RawVideo(row_id, 1, AT, source, f"v{row_id}", BlobReference(f"file:///videos/v{row_id}.mp4"))


def processed(row_id: int, num_kept: int = 1, num_rejected: int = 1, source: str = "db.raw_videos") -> ProcessedVideo:
    """A video with the given clips; its first clip is rejected, so that kept ids depend on ``num_rejected``."""
    clips = []
    for index in range(num_kept + num_rejected):
        span = Span(float(index), index + 1.0, index * 100, index * 100 + 100, Fraction(1, 100), index, index + 1)
        is_kept = index >= num_rejected
        clips.append(
            ClipOutcome(
                clip_id(source, row_id, span, PROFILE.fingerprint),
                index,
                span,
                scores=(Score(Stage.MOTION, MOTION_MEAN_MAGNITUDE, 0.5 + index, "farneback/full"),),
                rejected_by=None if is_kept else Stage.MOTION,
                reason=None if is_kept else "motion_below_min",
                media=ClipMedia(CutMethod.STREAM_COPY, f"clip {row_id}/{index}".encode(), b"jpeg", 1, 0, False)
                if is_kept
                else None,
            )
        )
    return ProcessedVideo(raw_video(row_id, source), VideoOutcome(clips=tuple(clips)), 1, AT)


def failed(row_id: int) -> ProcessedVideo:
    failure = Failure(FailureKind.PERMANENT, Stage.OPEN, "not_a_video", "it is a text file")
    return ProcessedVideo(raw_video(row_id), VideoOutcome(failure=failure), 1, AT)


def batch(position: Position, row_ids: Iterable[int], num_kept: int = 1) -> CommitBatch:
    videos = tuple(processed(row_id, num_kept) for row_id in row_ids)
    return CommitBatch(videos, position.union(OffsetRange(v.video.row_id, v.video.row_id + 1) for v in videos))


def delete_rows(config: CatalogConfig, name: str, row_ids: Sequence[int]) -> None:
    """Delete rows by deletion vectors, as an engine beside Sluice would."""
    found = table(config, name)
    commit = found.new_batch_write_builder().new_commit()
    commit.commit(TableDeleteByRowId(found).delete(row_ids))
    commit.close()


def rows_of(config: CatalogConfig, name: str, columns: Sequence[str]) -> list[dict[str, Any]]:
    found = table(config, name)
    head = found.snapshot_manager().get_latest_snapshot()
    return [row for part in stream(found, columns, head) for row in part.to_pylist()]


def ledger_counts(config: CatalogConfig) -> Counter[tuple[int, int]]:
    """How often each (row id, run) is in the ledger."""
    rows = rows_of(config, NAMES.ledger, ["source_row_id", "run"])
    return Counter((row["source_row_id"], row["run"]) for row in rows)


def clip_counts(config: CatalogConfig) -> Counter[int]:
    """How many clips each source row has in the curated table; fails where one clip stands there twice."""
    rows = rows_of(config, NAMES.curated, ["clip_id", "source_row_id"])
    assert len({row["clip_id"] for row in rows}) == len(rows)
    return Counter(row["source_row_id"] for row in rows)


def but_for_what_others_have_too(report: AuditReport) -> AuditReport:
    """The report without the clips that stand once more for another consumer, where a test means them to."""
    shared = [detail for detail in report.details if "of another consumer" in detail]
    left = tuple(detail for detail in report.details if detail not in shared)
    return replace(report, clips_duplicated=0, details=left) if shared else report


def expire_all_but_newest(config: CatalogConfig, name: str) -> None:
    """Delete old snapshots as Paimon's expiry does: their files from the oldest on, then the EARLIEST hint."""
    found = table(config, name)
    manager = found.snapshot_manager()
    newest = manager.get_latest_snapshot().id
    for snapshot_id in range(1, newest):
        found.file_io.delete(manager.get_snapshot_path(snapshot_id))
    found.file_io.overwrite_file_utf8(f"{manager.snapshot_dir}/EARLIEST", str(newest))
