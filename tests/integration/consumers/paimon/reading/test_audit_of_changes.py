"""Audit of tables that are read change by change: what stands in them, by a read of its own, against the ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import AuditReport, audit
from consumers.ports import CommitBatch
from schemas.positions import Position
from schemas.records import ProcessedVideo, RawVideo, RowKind, VideoOutcome
from tests.support.changelog import COLUMNS, KEYED, KeyedTable
from tests.support.warehouse import AT, PROFILE, processed


@pytest.fixture
def keyed(tmp_path: Path) -> KeyedTable:
    return KeyedTable(tmp_path / "warehouse")


def _done(video: RawVideo) -> ProcessedVideo:
    if video.row_kind is RowKind.DELETE:
        return ProcessedVideo(video, VideoOutcome(is_takedown=True), 0, AT)
    return replace(processed(video.row_id, 1, source=f"db.{KEYED.raw}"), video=video)


def _consume(keyed: KeyedTable, but: str = "") -> None:
    """Process everything, but pass over the videos whose ids are named, as a consumer that is blind to them would."""
    source = keyed.source()
    sink = PaimonSink(keyed.config, KEYED, "main", PROFILE, has_gaps=True)
    position = sink.open().position
    end = source.head().next_offset
    videos = [item for item in source.read(list(position.missing(end))) if isinstance(item, RawVideo)]
    done = tuple(_done(video) for video in videos if video.video_id not in but)
    sink.commit(CommitBatch(done, Position(end)))
    sink.close()


def _audit(keyed: KeyedTable) -> AuditReport:
    return audit(keyed.config, KEYED, "main", columns=COLUMNS)


def test_what_stands_is_what_the_ledger_tells(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib", "+Ic")
    keyed.change("+Ua", "-Db")
    _consume(keyed)
    report = _audit(keyed)
    assert (report.is_clean, report.rows, report.clips, report.pending, report.details) == (True, 2, 2, 0, ())


def test_changes_to_come_are_pending_and_what_is_done_is_compared_as_of_then(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    _consume(keyed)
    keyed.change("+Ua", "-Db", "+Ic")
    report = _audit(keyed)
    assert (report.is_clean, report.pending, report.rows) == (True, 3, 2)


def test_key_that_stands_and_was_never_read_is_missing(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    _consume(keyed, but="b")
    report = _audit(keyed)
    assert (report.missing, report.mismatched, report.is_clean) == (1, 0, False)
    assert report.details == ("table db.curation_ledger: lacks 1 rows that stand in db.keyed_videos as of snapshot 1",)


def test_key_that_stands_and_whose_changes_have_expired_unread_is_missing(keyed: KeyedTable) -> None:
    keyed.change("+Ia")
    _consume(keyed)
    keyed.change("+Ib")
    keyed.change("+Ic")
    keyed.expire_below(3)
    sink = PaimonSink(keyed.config, KEYED, "main", PROFILE, has_gaps=True)
    position = sink.open().position
    source = keyed.source()
    end = source.head().next_offset
    videos = [item for item in source.read([*Position(end - (1 << 32)).missing(end)]) if isinstance(item, RawVideo)]
    assert position.watermark < end
    sink.commit(CommitBatch(tuple(map(_done, videos)), Position(end)))
    report = _audit(keyed)
    assert (report.missing, report.pending, report.is_clean) == (1, 0, False)


def test_deletion_that_was_never_read_leaves_a_video_that_stands_no_more(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    _consume(keyed)
    keyed.change("-Da")
    _consume(keyed, but="a")
    report = _audit(keyed)
    assert (report.mismatched, report.missing, report.is_clean) == (1, 0, False)
    assert "tells of a video that stands no more in db.keyed_videos" in report.details[0]


def test_nothing_is_missing_before_a_consumer_has_begun(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    report = _audit(keyed)
    assert (report.is_clean, report.pending, report.rows) == (True, 2, 2)


@pytest.mark.parametrize("producer", ["lookup", "full-compaction"])
def test_what_no_compaction_has_told_yet_is_not_missing(keyed: KeyedTable, producer: str) -> None:
    keyed.change("+Ia", "+Ib")
    keyed.change("+Ic")
    keyed.move_changelogs_into_compactions(producer)
    _consume(keyed)
    report = _audit(keyed)
    assert (report.missing, report.mismatched, report.is_clean) == (0, 0, True)
