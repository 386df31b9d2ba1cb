from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.rows import Lineage, curated_rows, ledger_rows
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.table_committer import TableCommitter
from consumers.paimon.reading.audit import audit
from consumers.paimon.reading.clips import ClipFilter, ClipReader
from consumers.paimon.reading.ledger import LedgerReader
from consumers.ports import CommitBatch
from consumers.testing import SimulatedCrashError
from schemas.positions import Position
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    batch,
    delete_rows,
    expire_all_but_newest,
    failed,
    make_warehouse,
    processed,
    table,
)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    made = make_warehouse(tmp_path / "warehouse")
    append_raw(made, "abcdef")
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
    assert report.details == ("row 1 is covered by the position but not in the ledger",)


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
    assert report.details == ("row 1 is in the ledger more than once for run 1",)


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
    assert "was kept and is not in the curated table" in report.details[0]


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


def test_each_consumer_is_audited_by_itself(config: CatalogConfig) -> None:
    _committed(config, "main")
    _committed(config, "other")
    for consumer in ("main", "other"):
        report = audit(config, NAMES, consumer)
        assert report.is_clean
        assert (report.ledger_rows, report.clips) == (3, 2)


def test_expired_marker_is_said_in_the_details(config: CatalogConfig) -> None:
    _committed(config, "main")
    _committed(config, "other")
    expire_all_but_newest(config, NAMES.curated)
    report = audit(config, NAMES, "main")
    assert report.is_clean
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
