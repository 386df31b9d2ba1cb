from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit import sink as sink_module
from consumers.paimon.commit.rows import Lineage, curated_rows, ledger_rows
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.commit.takedown import TakedownStore, new_takedown
from consumers.paimon.reading.audit import audit
from consumers.paimon.reading.audit_clips import DeepCheck
from consumers.paimon.reading.clips import ClipFilter, ClipReader
from consumers.paimon.reading.known_rows import KnownRows
from consumers.paimon.reading.ledger import LedgerReader
from consumers.ports import CommitBatch
from consumers.testing import SimulatedCrashError
from schemas.positions import Position
from schemas.records import BlobReference, ProcessedVideo, RowKind, VideoOutcome
from tests.support.consuming import consume
from tests.support.rewrites import RowIds, rewrite
from tests.support.warehouse import (
    AT,
    NAMES,
    PROFILE,
    append_raw,
    batch,
    but_for_what_others_have_too,
    delete_rows,
    expire_all_but_newest,
    failed,
    make_warehouse,
    processed,
    raw_video,
    table,
)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, (f"v{n}" for n in range(6)))
    return made


def _committed(config: CatalogConfig, consumer: str = "main") -> None:
    sink = PaimonSink(config, NAMES, consumer, PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(0, 2), processed(1, 0), failed(2)), Position(3)))


def _append(config: CatalogConfig, name: str, rows: pa.Table) -> None:
    """Write behind the consumer's back."""
    committer = TableCommitter(table(config, name), "vandal", lambda manager, latest: None)
    committer.publish(committer.write(rows, 1), 1, {"by": "vandal"})


_LINEAGE = Lineage("main", 1, 1, PROFILE)


def test_rows_beyond_the_position_are_pending(config: CatalogConfig) -> None:
    _committed(config)
    report = audit(config, NAMES, "main")
    assert report.is_clean
    assert (report.rows, report.ledger_rows, report.clips, report.pending) == (6, 3, 2, 3)
    assert report.details == ()


def test_consumer_that_has_never_run_has_everything_pending(config: CatalogConfig) -> None:
    report = audit(config, NAMES, "nobody")
    assert (report.rows, report.pending, report.ledger_rows, report.is_clean) == (6, 6, 0, True)


def test_row_that_the_position_covers_without_a_ledger_row_is_missing(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(0),), Position(3)))
    report = audit(config, NAMES, "main")
    assert (report.missing, report.pending, report.is_clean) == (2, 3, False)
    assert report.details == (
        "table db.curation_ledger: lacks rows 1 to 2 of db.raw_videos, which the position covers",
    )


def test_row_that_moved_from_one_which_nobody_has_processed_is_found(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    moved = replace(processed(1).video, row_kind=RowKind.MOVE, key="row:9")
    videos = (processed(0), ProcessedVideo(moved, VideoOutcome(is_move=True), 0, AT), processed(2))
    sink.commit(CommitBatch(videos, Position(3)))
    report = audit(config, NAMES, "main")
    assert (report.missing, report.is_clean) == (1, False)
    assert report.details == (
        "table db.curation_ledger: has row 1 of db.raw_videos as moved from row 9, which it lacks",
    )


def test_rows_deleted_from_the_raw_table_are_not_missing(config: CatalogConfig) -> None:
    delete_rows(config, NAMES.raw, [1, 2])
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(0),), Position(3)))
    report = audit(config, NAMES, "main")
    assert (report.rows, report.missing, report.pending) == (4, 0, 3)


def test_ledger_row_that_stands_twice_is_duplicated(config: CatalogConfig) -> None:
    _committed(config)
    _append(config, NAMES.ledger, ledger_rows([(processed(1, 0), 1)], _LINEAGE))
    report = audit(config, NAMES, "main")
    assert (report.duplicated, report.missing, report.is_clean) == (1, 0, False)
    assert report.details == ("table db.curation_ledger: has row 1 of db.raw_videos more than once for run 1",)


def test_clip_that_stands_twice_is_duplicated(config: CatalogConfig) -> None:
    _committed(config)
    _append(config, NAMES.curated, curated_rows([processed(0, 2)], _LINEAGE).slice(0, 1))
    report = audit(config, NAMES, "main")
    assert (report.clips_duplicated, report.unaccounted, report.clips_missing) == (1, 0, 0)


def test_clip_that_no_ledger_row_claims_is_unaccounted(config: CatalogConfig) -> None:
    _committed(config)
    _append(config, NAMES.curated, curated_rows([processed(4, 1)], _LINEAGE))
    report = audit(config, NAMES, "main")
    assert (report.unaccounted, report.clips, report.is_clean) == (1, 3, False)


def test_clips_of_a_superseded_run_are_unaccounted(config: CatalogConfig) -> None:
    _committed(config)
    _append(config, NAMES.ledger, ledger_rows([(processed(0, 1), 2)], _LINEAGE))
    report = audit(config, NAMES, "main")
    assert (report.unaccounted, report.duplicated, report.clips_missing) == (1, 0, 0)


def test_kept_clip_that_was_deleted_is_missing(config: CatalogConfig) -> None:
    _committed(config)
    delete_rows(config, NAMES.curated, [0])
    report = audit(config, NAMES, "main")
    assert (report.clips_missing, report.is_clean) == (1, False)
    assert "table db.curated_clips: lacks clip" in report.details[0]
    assert "keeps of row 0 of db.raw_videos" in report.details[0]


def test_commit_cut_in_two_by_a_crash_is_pending_not_wrong(config: CatalogConfig) -> None:
    def crash(step: str) -> None:
        if step == "after_ledger_publish":
            raise SimulatedCrashError

    sink = PaimonSink(config, NAMES, "main", PROFILE, on_step=crash)
    sink.open()
    with pytest.raises(SimulatedCrashError):
        sink.commit(batch(Position(), [0, 1]))
    report = audit(config, NAMES, "main")
    assert report.is_clean
    assert (report.ledger_rows, report.clips) == (2, 0)
    assert report.pending == 6, "the consumer's position covers none of them, whatever the ledger holds already"


def test_each_consumer_is_audited_by_itself_and_clips_that_both_have_are_found(config: CatalogConfig) -> None:
    _committed(config, "main")
    _committed(config, "other")
    for consumer in ("main", "other"):
        report = audit(config, NAMES, consumer)
        assert (report.ledger_rows, report.clips, report.missing, report.unaccounted) == (3, 2, 0, 0)
        assert (report.clips_duplicated, report.is_clean) == (2, False)
        assert "of another consumer" in report.details[0]


def test_ledger_row_that_tells_of_another_video_is_found(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    swapped = replace(processed(1, 0), video=replace(raw_video(1), blob=BlobReference("file:///videos/other.mp4")))
    sink.commit(CommitBatch((processed(0), swapped), Position(2)))
    report = audit(config, NAMES, "main")
    assert (report.mismatched, report.missing, report.is_clean) == (1, 0, False)
    assert report.details == (
        "table db.curation_ledger: its row for row 1 of db.raw_videos tells of another video_id or URI",
    )


def _files(config: CatalogConfig, name: str, suffix: str) -> list[Path]:
    return sorted(Path(table(config, name).table_path).rglob(f"data-*{suffix}"))


def test_clips_whose_files_are_gone_are_found_without_looking_at_bytes(config: CatalogConfig) -> None:
    _committed(config)
    (blob,) = _files(config, NAMES.curated, ".blob")
    blob.unlink()
    report = audit(config, NAMES, "main")
    assert (report.files_missing, report.clips, report.is_clean) == (1, 2, False)
    assert report.details == (f"table db.curated_clips: file {blob} of rows 0 to 1 is not there",)


def test_file_that_was_cut_short_is_found(config: CatalogConfig) -> None:
    _committed(config)
    (blob,) = _files(config, NAMES.curated, ".blob")
    size = blob.stat().st_size
    blob.write_bytes(blob.read_bytes()[:10])
    report = audit(config, NAMES, "main")
    assert (report.files_damaged, report.files_missing, report.is_clean) == (1, 0, False)
    assert f"has 10 bytes and not the {size}" in report.details[0]


def test_rows_in_a_file_that_is_gone_are_missing_and_the_others_are_compared(config: CatalogConfig) -> None:
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(0),), Position(1)))
    sink.commit(CommitBatch((processed(1),), Position(2)))
    for name in (NAMES.ledger, NAMES.curated):
        min(_files(config, name, ".parquet"), key=lambda path: path.stat().st_mtime_ns).unlink()
    report = audit(config, NAMES, "main")
    assert (report.files_missing, report.missing, report.ledger_rows, report.clips) == (2, 1, 1, 1)


class _Judge:
    """Notes what it is asked, and finds clips wrong whose bytes begin with ``garbage``."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, int]] = []

    def __call__(self, data: bytes, num_frames: int) -> str | None:
        self.asked.append((data, num_frames))
        return "is garbage" if data.startswith(b"garbage") else None


def _curated_with(config: CatalogConfig, *clips: bytes | None) -> None:
    """Commit a video for each of ``clips``, with these bytes."""
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    videos = tuple(processed(row_id, 1, 0) for row_id in range(len(clips)))
    with patch.object(sink_module, "curated_rows", lambda videos, lineage: _with_bytes(videos, lineage, clips)):
        sink.commit(CommitBatch(videos, Position(len(clips))))


def _with_bytes(videos: Sequence[ProcessedVideo], lineage: Lineage, clips: Sequence[bytes | None]) -> pa.Table:
    rows = curated_rows(videos, lineage)
    place = rows.schema.get_field_index("clip")
    return rows.set_column(place, rows.schema.field("clip"), pa.array(clips, pa.large_binary()))


def test_deep_audit_finds_clips_that_are_null_empty_or_garbage(config: CatalogConfig) -> None:
    _curated_with(config, b"fine", None, b"", b"garbage")
    assert audit(config, NAMES, "main").is_clean, "bytes are what only the deep audit looks at"
    judge = _Judge()
    report = audit(config, NAMES, "main", deep=DeepCheck(judge, None, random.Random(1)))
    assert (report.clips_checked, report.clips_broken, report.is_clean) == (2, 3, False)
    assert judge.asked == [(b"fine", 1), (b"garbage", 1)]
    assert [detail.split(": ")[1] for detail in report.details] == ["row 1", "row 2", "row 3"]
    assert [detail[-7:] for detail in report.details] == ["is NULL", "s empty", "garbage"]


def test_deep_audit_decodes_a_sample_and_looks_for_bytes_in_all(config: CatalogConfig) -> None:
    _curated_with(config, b"one", b"two", None, b"four", b"five")
    judge = _Judge()
    report = audit(config, NAMES, "main", deep=DeepCheck(judge, 2, random.Random(1)))
    assert (report.clips_checked, report.clips_broken) == (2, 1)
    assert len(judge.asked) == 2


def test_deep_audit_goes_on_past_files_that_are_gone(config: CatalogConfig) -> None:
    _committed(config)
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    sink.open()
    sink.commit(CommitBatch((processed(3, 1),), Position(4)))
    min(_files(config, NAMES.curated, ".blob"), key=lambda path: path.stat().st_mtime_ns).unlink()
    judge = _Judge()
    report = audit(config, NAMES, "main", deep=DeepCheck(judge, None, random.Random(1)))
    assert (report.files_missing, report.clips_checked, report.clips_broken) == (1, 1, 0)


def test_expired_marker_is_said_in_the_details(config: CatalogConfig) -> None:
    _committed(config, "main")
    _committed(config, "other")
    expire_all_but_newest(config, NAMES.curated)
    report = audit(config, NAMES, "main")
    assert but_for_what_others_have_too(report).is_clean
    assert report.pending == 3
    assert "marker has expired" in report.details[0]


def test_clips_are_listed_without_bytes_and_read_one_by_one(config: CatalogConfig) -> None:
    _committed(config)
    reader = ClipReader(config, NAMES.curated, chunk_rows=1)
    clips = list(reader.clips())
    assert [clip.values["clip_index"] for clip in clips] == [1, 2]
    assert "clip" not in clips[0].values
    assert [clip.row_id for clip in reader.clips(newest_first=True, limit=1)] == [1]
    assert (reader.media(clips[1]), reader.thumbnail(clips[1])) == (b"clip 0/2", b"jpeg")


def test_clips_are_filtered(config: CatalogConfig) -> None:
    _committed(config)
    reader = ClipReader(config, NAMES.curated)
    wanted = ClipFilter("main", "2026-03-04", 0)
    assert len(list(reader.clips(wanted))) == 2
    for none in (
        replace(wanted, consumer="x"),
        replace(wanted, ingest_date="2026-03-05"),
        replace(wanted, source_row_id=1),
        ClipFilter(clip_id="x"),
    ):
        assert list(reader.clips(none)) == []
    (first, _) = reader.clips()
    assert [clip.row_id for clip in reader.clips(ClipFilter(clip_id=first.values["clip_id"]))] == [first.row_id]


def test_empty_curated_table_lists_nothing(config: CatalogConfig) -> None:
    assert list(ClipReader(config, NAMES.curated).clips(newest_first=True)) == []


def test_ledger_is_summed_up_over_latest_runs(config: CatalogConfig) -> None:
    _committed(config)
    reader = LedgerReader(config, NAMES, "main")
    summary = reader.summary()
    assert dict(summary.videos) == {"curated": 1, "rejected": 1, "failed": 1}
    assert summary.clips_kept == 2
    assert dict(summary.rejections) == {("motion_filter", "motion_below_min"): 2}
    assert dict(summary.failures) == {("open", "not_a_video"): 1}
    (dead,) = reader.failed()
    assert (dead.source_row_id, dead.error_class, dead.message) == (2, "not_a_video", "it is a text file")
    _append(config, NAMES.ledger, ledger_rows([(processed(2, 1), 2)], _LINEAGE))
    assert dict(reader.summary().videos) == {"curated": 2, "rejected": 1}
    assert reader.failed() == []
    committed = reader.committed()
    assert committed is not None
    assert (committed.position, committed.sequence, committed.epoch) == (Position(3), 1, 1)
    assert LedgerReader(config, NAMES, "nobody").committed() is None


# Rows that are deleted from the raw table, and their clips.


def _clips_left_behind(config: CatalogConfig, monkeypatch: pytest.MonkeyPatch, up_to: int) -> None:
    """Let a consumer believe that it has looked for deleted rows up to a snapshot."""
    with monkeypatch.context() as patch:
        patch.setattr(KnownRows, "removed", lambda self: iter(()))
        append_raw(config, ["last"])
        consume(config)
        sink = PaimonSink(config, NAMES, "main", PROFILE)
        recovered = sink.open()
        assert recovered.mark is not None
        mark = replace(recovered.mark, swept_id=up_to)
        sink.commit(CommitBatch((), recovered.position, mark))
        sink.close()


def test_clips_of_deleted_rows_that_nobody_took_out_are_found(
    config: CatalogConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    consume(config)
    delete_rows(config, NAMES.raw, [1, 4])
    _clips_left_behind(config, monkeypatch, up_to=3)
    report = audit(config, NAMES, "main")
    assert (report.unaccounted, report.pending, report.is_clean) == (4, 0, False)
    told = "table db.curated_clips: has clips of row 1 of db.raw_videos, which was deleted"
    assert told in report.details


def test_clips_of_rows_that_were_deleted_since_the_consumer_looked_are_pending(config: CatalogConfig) -> None:
    consume(config)
    delete_rows(config, NAMES.raw, [1, 4])
    report = audit(config, NAMES, "main")
    assert (report.unaccounted, report.pending, report.is_clean) == (0, 2, True)


def test_clips_of_a_row_that_moved_before_it_was_deleted_are_found(
    config: CatalogConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    consume(config)
    rewrite(config, NAMES.raw, "OVERWRITE", RowIds.NEW)
    consume(config)
    # v0 to v5 have ids 6 to 11 now.
    assert audit(config, NAMES, "main").pending == 0
    delete_rows(config, NAMES.raw, [7])
    assert audit(config, NAMES, "main").pending == 1
    _clips_left_behind(config, monkeypatch, up_to=4)
    report = audit(config, NAMES, "main")
    assert (report.unaccounted, report.pending) == (2, 0)
    assert "has clips of row 1 of db.raw_videos, which was deleted" in report.details[0]


@pytest.mark.parametrize("step", ["after_ledger_publish", "before_curated_write", "after_curated_write"])
def test_removal_between_its_two_publishes_is_pending(config: CatalogConfig, step: str) -> None:
    consume(config)
    delete_rows(config, NAMES.raw, [1])
    with pytest.raises(SimulatedCrashError):
        consume(config, die_at=step)
    report = audit(config, NAMES, "main")
    assert (report.is_clean, report.pending) == (True, 1), report
    consume(config)
    report = audit(config, NAMES, "main")
    assert (report.is_clean, report.pending) == (True, 0), report


def test_takedown_between_its_two_publishes_is_pending(config: CatalogConfig) -> None:
    consume(config)
    TakedownStore(config, NAMES.control).add(new_takedown("v1", "ann", "cli", AT, None, video_ids=("v1",)))
    with pytest.raises(SimulatedCrashError):
        consume(config, die_at="after_ledger_publish")
    report = audit(config, NAMES, "main")
    assert (report.is_clean, report.pending) == (True, 1), report
    consume(config)
    report = audit(config, NAMES, "main")
    assert (report.is_clean, report.pending, report.clips) == (True, 0, 10), report
