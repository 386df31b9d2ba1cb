"""Large clips go through the store, not through memory: into the table byte for byte, and nothing is left behind."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from consumers.errors import StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.staging import FOLDER, PaimonStaging
from consumers.ports import CommitBatch
from consumers.testing import SimulatedCrashError
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo
from schemas.shards import Shard
from tests.support.s3_server import S3Server, make_s3_warehouse
from tests.support.warehouse import NAMES, PROFILE, make_warehouse, processed, rows_of, table

CONTENT = bytes(range(256)) * 20_000


def staged(config: CatalogConfig, row_id: int, num_kept: int = 2) -> ProcessedVideo:
    """A video whose kept clips wait in the store, but for the first one."""
    staging = PaimonStaging(config, NAMES.curated, "main", Shard())
    video = processed(row_id, num_kept)
    clips = []
    for clip in video.outcome.clips:
        if clip.media is not None and clip.index > 1:
            reference = staging.put(clip.clip_id, io.BytesIO(CONTENT + bytes([row_id, clip.index])))
            clip = replace(clip, media=replace(clip.media, data=None, staged=reference))  # noqa: PLW2901
        clips.append(clip)
    return replace(video, outcome=replace(video.outcome, clips=tuple(clips)))


def batch_of(videos: Iterable[ProcessedVideo]) -> CommitBatch:
    done = tuple(videos)
    return CommitBatch(done, Position().union(OffsetRange(v.video.row_id, v.video.row_id + 1) for v in done))


def objects(config: CatalogConfig) -> list[str]:
    found = table(config, NAMES.curated)
    return [status.base_name for status in found.file_io.list_status(f"{found.table_path}/{FOLDER}")]


def clips(config: CatalogConfig) -> dict[tuple[int, int], bytes]:
    rows = rows_of(config, NAMES.curated, ["source_row_id", "clip_index", "clip"])
    return {(row["source_row_id"], row["clip_index"]): row["clip"] for row in rows}


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    return make_warehouse(tmp_path / "warehouse")


def test_committed_clip_has_the_staged_bytes_and_the_store_is_empty(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    batch = batch_of(staged(config, row_id) for row_id in range(2))
    assert len(objects(config)) == 2
    assert batch.videos[0].outcome.media_bytes - batch.videos[0].outcome.held_bytes == len(CONTENT) + 2
    sink.commit(batch)
    sink.close()
    assert clips(config) == {
        (0, 1): b"clip 0/1",
        (0, 2): CONTENT + bytes([0, 2]),
        (1, 1): b"clip 1/1",
        (1, 2): CONTENT + bytes([1, 2]),
    }
    assert objects(config) == []


def test_staged_clip_reaches_a_table_on_s3(s3_server: S3Server) -> None:
    config = make_s3_warehouse(s3_server.endpoint, s3_server.make_bucket("staged-clips"))
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(batch_of([staged(config, 0)]))
    sink.close()
    assert clips(config)[0, 2] == CONTENT + bytes([0, 2])
    assert [name for name in objects(config) if name.endswith(".mp4")] == []


@pytest.mark.parametrize("step", ["before_ledger_write", "before_curated_write", "after_curated_publish"])
def test_process_that_dies_between_upload_and_deletion_leaves_nothing_after_the_next_start(
    config: CatalogConfig, step: str
) -> None:
    def die(at: str) -> None:
        if at == step:
            raise SimulatedCrashError

    sink = PaimonSink(config, NAMES, "main", PROFILE, on_step=die)
    sink.open()
    with pytest.raises(SimulatedCrashError):
        sink.commit(batch_of([staged(config, 0)]))
    assert len(objects(config)) == 1
    successor = PaimonSink(config, NAMES, "main", PROFILE)
    recovered = successor.open()
    assert objects(config) == []
    if not recovered.position.covers(0):
        successor.commit(batch_of([staged(config, 0)]))
    assert clips(config)[0, 2] == CONTENT + bytes([0, 2])
    assert len(clips(config)) == 2


@pytest.mark.parametrize("step", ["before_curated_write", "after_curated_write", "after_curated_publish"])
def test_batch_committed_again_after_a_fault_still_has_its_staged_clips(config: CatalogConfig, step: str) -> None:
    faults = [OSError("gone")]

    def fail(at: str) -> None:
        if at == step and faults:
            raise faults.pop()

    sink = PaimonSink(config, NAMES, "main", PROFILE, on_step=fail)
    sink.open()
    batch = batch_of([staged(config, 0)])
    while True:
        try:
            sink.commit(batch)
            break
        except StoreUnavailableError:
            continue
    assert clips(config) == {(0, 1): b"clip 0/1", (0, 2): CONTENT + bytes([0, 2])}
    assert objects(config) == []


def test_newer_incarnation_does_not_delete_what_is_staged_after_it_took_over(config: CatalogConfig) -> None:
    older = PaimonSink(config, NAMES, "main", PROFILE)
    older.open()
    left = staged(config, 0)
    newer = PaimonSink(config, NAMES, "main", PROFILE)
    newer.open()
    assert objects(config) == []
    batch = batch_of([staged(config, 0)])
    assert left.outcome.staged != batch.videos[0].outcome.staged
    newer.commit(batch)
    assert clips(config)[0, 2] == CONTENT + bytes([0, 2])
