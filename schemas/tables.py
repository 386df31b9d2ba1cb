"""The four tables: Arrow schemas, partitioning, primary keys and Paimon options.

``pa.large_binary()`` is how pypaimon spells a BLOB column; ``pa.binary()`` is BYTES.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

_TIME = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()

# Snapshot properties in which a commit records who made it and how far it got (see consumers/paimon/fence).
PROPERTY_CONSUMER = "sluice.consumer"
# Of which commit user: other engines copy the properties of a snapshot into one of their own.
PROPERTY_COMMIT_USER = "sluice.commit_user"
PROPERTY_SOURCE = "sluice.source"
# Where the newest marker of every consumer and shard stands.
PROPERTY_NEWEST = "sluice.newest"
PROPERTY_SOURCE_MARK = "sluice.source_mark"
PROPERTY_EPOCH = "sluice.epoch"
PROPERTY_SEQUENCE = "sluice.sequence"
PROPERTY_POSITION = "sluice.position"
PROPERTY_SHARD = "sluice.shard"
PROPERTY_BASES = "sluice.bases"
PROPERTY_REPLAYS = "sluice.replays"


@dataclass(frozen=True)
class TableSpec:
    """A table that Sluice creates.

    Attributes:
        role: what it is to Sluice: raw, curated, ledger or control.
        schema: columns; a column that is not nullable here is NOT NULL in the table.
        partition_keys: partition columns, outermost first.
        primary_keys: empty for an append table.
        options: Paimon table options.
        later: columns that tables of earlier versions lack; they work without, and say less.
    """

    role: str
    schema: pa.Schema
    partition_keys: tuple[str, ...] = ()
    primary_keys: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    later: frozenset[str] = frozenset()


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


_APPEND = {
    "bucket": "-1",
    # An interval in which everything was rejected still commits its position.
    "snapshot.ignore-empty-commit": "false",
    # pypaimon's default of 10 runs out with four writers on an object store.
    "commit.max-retries": "100",
}
_ROW_TRACKED = {
    **_APPEND,
    "row-tracking.enabled": "true",
    "data-evolution.enabled": "true",
    # A row can be deleted, by a takedown or by its owner, without rewriting the video bytes beside it.
    "deletion-vectors.enabled": "true",
}

RAW = TableSpec(
    role="raw",
    schema=pa.schema(
        [
            _required("video_id", _TEXT),
            _required("uri", _TEXT),
            pa.field("size_bytes", pa.int64()),
            pa.field("etag", _TEXT),
            _required("landed_at", _TIME),
            pa.field("video", pa.large_binary()),
            pa.field("metadata", pa.map_(_TEXT, _TEXT)),
        ]
    ),
    options={**_ROW_TRACKED, "blob-descriptor-field": "video"},
)

# One struct per measured value, in the ledger's clips; the curated table has a column for each instead.
_SCORE = pa.struct(
    [
        ("stage", _TEXT),
        ("name", _TEXT),
        ("value", pa.float64()),
        ("method", _TEXT),
        ("model_id", _TEXT),
        ("model_revision", _TEXT),
    ]
)

LEDGER_CLIP = pa.struct(
    [
        ("clip_id", _TEXT),
        ("clip_index", pa.int32()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("kept", pa.bool_()),
        ("rejected_by", _TEXT),
        ("reason", _TEXT),
        ("scores", pa.list_(_SCORE)),
    ]
)

LEDGER_TIMING = pa.struct(
    [
        ("stage", _TEXT),
        ("wall_s", pa.float64()),
        ("cpu_s", pa.float64()),
        ("num_in", pa.int32()),
        ("num_out", pa.int32()),
        # Null where no model was asked.
        ("queue_s", pa.float64()),
        ("mean_batch", pa.float64()),
    ]
)

LEDGER = TableSpec(
    role="ledger",
    schema=pa.schema(
        [
            _required("consumer", _TEXT),
            _required("source_table", _TEXT),
            _required("source_row_id", pa.int64()),
            pa.field("source_snapshot_id", pa.int64()),
            pa.field("source_committed_at", _TIME),
            # +I, +U or -D, and the primary key as text, where the source is a table with a primary key: the newest
            # row of a key is the one whose clips stand in the curated table.
            _required("row_kind", _TEXT),
            pa.field("source_key", _TEXT),
            # Where offsets have gaps: everything below was done once this commit was. Rows alone could not tell.
            pa.field("source_watermark", pa.int64()),
            _required("video_id", _TEXT),
            pa.field("source_uri", _TEXT),
            pa.field("source_offset_bytes", pa.int64()),
            pa.field("source_length_bytes", pa.int64()),
            # Which version of the object was read, and whether it is another one than the raw row tells of.
            pa.field("source_size_bytes", pa.int64()),
            pa.field("source_etag", _TEXT),
            pa.field("source_is_replaced", pa.bool_()),
            # The row that had the same bytes before, under another name.
            pa.field("source_same_as_row_id", pa.int64()),
            _required("status", _TEXT),
            _required("num_clips_kept", pa.int32()),
            _required("num_clips_rejected", pa.int32()),
            pa.field("clips", pa.list_(LEDGER_CLIP)),
            pa.field("failure_stage", _TEXT),
            pa.field("failure_class", _TEXT),
            pa.field("failure_message", _TEXT),
            # How often the pool was called for the row in this run, and which run over the row this is: a replay, or a
            # reprocessing that came out differently after a crash, appends a new row with the next run number.
            _required("attempts", pa.int32()),
            _required("run", pa.int32()),
            pa.field("container_format", _TEXT),
            pa.field("codec", _TEXT),
            pa.field("width_px", pa.int32()),
            pa.field("height_px", pa.int32()),
            pa.field("fps", pa.float64()),
            pa.field("duration_s", pa.float64()),
            pa.field("num_frames", pa.int64()),
            pa.field("num_corrupt_frames", pa.int64()),
            pa.field("rotation_degrees", pa.int32()),
            pa.field("has_audio", pa.bool_()),
            pa.field("timings", pa.list_(LEDGER_TIMING)),
            pa.field("bytes_read", pa.int64()),
            _required("profile", _TEXT),
            _required("profile_fingerprint", _TEXT),
            _required("epoch", pa.int64()),
            _required("commit_sequence", pa.int64()),
            _required("processed_at", _TIME),
        ]
    ),
    # Least and greatest values of each file, by which single rows are found; pypaimon writes none unless told to.
    options={**_APPEND, "metadata.stats-mode": "full"},
    later=frozenset({"source_size_bytes", "source_etag", "source_is_replaced", "source_same_as_row_id"}),
)

CURATED = TableSpec(
    role="curated",
    schema=pa.schema(
        [
            _required("clip_id", _TEXT),
            # Date of the raw row's commit, YYYY-MM-DD in UTC: the same in every attempt, so is the partition.
            _required("ingest_date", _TEXT),
            _required("video_id", _TEXT),
            _required("clip_index", pa.int32()),
            _required("source_table", _TEXT),
            _required("source_row_id", pa.int64()),
            _required("source_snapshot_id", pa.int64()),
            _required("source_uri", _TEXT),
            _required("source_offset_bytes", pa.int64()),
            _required("source_length_bytes", pa.int64()),
            _required("start_s", pa.float64()),
            _required("end_s", pa.float64()),
            _required("duration_s", pa.float64()),
            _required("start_pts", pa.int64()),
            _required("end_pts", pa.int64()),
            _required("time_base", _TEXT),
            _required("start_frame", pa.int64()),
            _required("end_frame", pa.int64()),
            pa.field("width_px", pa.int32()),
            pa.field("height_px", pa.int32()),
            pa.field("fps", pa.float64()),
            pa.field("codec", _TEXT),
            pa.field("nsfw_score", pa.float64()),
            pa.field("nsfw_method", _TEXT),
            pa.field("nsfw_model_id", _TEXT),
            pa.field("nsfw_model_revision", _TEXT),
            pa.field("motion_score", pa.float64()),
            pa.field("motion_method", _TEXT),
            pa.field("aesthetic_score", pa.float64()),
            pa.field("aesthetic_method", _TEXT),
            pa.field("aesthetic_model_id", _TEXT),
            pa.field("aesthetic_model_revision", _TEXT),
            pa.field("technical_quality", pa.float64()),
            pa.field("technical_quality_method", _TEXT),
            pa.field("caption", _TEXT),
            pa.field("caption_method", _TEXT),
            pa.field("caption_is_model_generated", pa.bool_()),
            pa.field("caption_model_id", _TEXT),
            pa.field("caption_model_revision", _TEXT),
            pa.field("clip", pa.large_binary()),
            pa.field("thumbnail_jpeg", pa.binary()),
            _required("cut_method", _TEXT),
            _required("num_frames", pa.int64()),
            _required("num_hidden_frames", pa.int64()),
            _required("has_audio", pa.bool_()),
            _required("consumer", _TEXT),
            _required("epoch", pa.int64()),
            _required("commit_sequence", pa.int64()),
            _required("profile", _TEXT),
            _required("profile_fingerprint", _TEXT),
            _required("processed_at", _TIME),
        ]
    ),
    partition_keys=("ingest_date",),
    options=_ROW_TRACKED,
)

CONTROL = TableSpec(
    role="control",
    schema=pa.schema(
        [
            _required("kind", _TEXT),
            _required("key", _TEXT),
            _required("value", _TEXT),
            _required("actor", _TEXT),
            pa.field("reason", _TEXT),
            _required("at", _TIME),
        ]
    ),
    primary_keys=("kind", "key"),
    options={"bucket": "1", "commit.max-retries": "100"},
)
