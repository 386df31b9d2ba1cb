"""Positions moved by hand: dead letters read again, rows left out, nothing twice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from consumers.errors import FencedError, StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.ledger_index import LedgerIndex
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.skips import Skips
from consumers.paimon.commit.takedown import TakedownStore
from consumers.paimon.reading.audit import audit
from consumers.ports import CommitBatch, Recovered
from consumers.testing import SimulatedCrashError
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo
from schemas.shards import WHOLE, Base, Shard
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    clip_counts,
    expire_all_but_newest,
    failed,
    ledger_counts,
    make_warehouse,
    processed,
    table,
)


@pytest.fixture
def config(tmp_path: Path) -> CatalogConfig:
    config = make_warehouse(tmp_path)
    append_raw(config, [f"v{n}" for n in range(6)])
    # Rows 1 and 3 fail, 4 is rejected, the others keep a clip.
    run(config, [processed(0), failed(1), processed(2), failed(3), processed(4, num_kept=0), processed(5)])
    return config


def run(config: CatalogConfig, videos: Iterable[ProcessedVideo]) -> Recovered:
    sink = PaimonSink(config, NAMES, "c1", PROFILE)
    recovered = sink.open()
    done = tuple(videos)
    offsets = [OffsetRange(video.video.row_id, video.video.row_id + 1) for video in done]
    sink.commit(CommitBatch(done, recovered.position.union(offsets)))
    sink.close()
    return recovered


@pytest.fixture
def repositioner(config: CatalogConfig) -> Repositioner:
    return Repositioner(config, NAMES, "c1")


def test_replayed_dead_letter_that_succeeds_is_a_new_run_with_its_clips(
    config: CatalogConfig, repositioner: Repositioner
) -> None:
    move = repositioner.again([1, 3])
    assert (move.num_read_again, move.num_left_done, move.num_skipped) == (2, 0, 0)
    repositioner.make(move)
    assert list(run(config, [processed(1), failed(3)]).position.missing(6)) == [OffsetRange(1, 2), OffsetRange(3, 4)]
    assert ledger_counts(config)[1, 2] == 1
    # The same failure again is history, too.
    assert ledger_counts(config)[3, 2] == 1
    assert clip_counts(config) == {0: 1, 1: 1, 2: 1, 5: 1}
    assert audit(config, NAMES, "c1").is_clean


def test_replay_survives_a_crash_before_its_commit(config: CatalogConfig, repositioner: Repositioner) -> None:
    repositioner.make(repositioner.again([1]))
    crashed = PaimonSink(config, NAMES, "c1", PROFILE)
    crashed.open()
    crashed.close()
    run(config, [processed(1)])
    assert ledger_counts(config)[1, 2] == 1
    assert audit(config, NAMES, "c1").is_clean


def test_replayed_row_that_fails_again_leaves_one_new_row_whatever_crashes(
    config: CatalogConfig, repositioner: Repositioner
) -> None:
    repositioner.make(repositioner.again([1]))

    def crash(step: str) -> None:
        if step == "after_ledger_publish":
            raise SimulatedCrashError

    crashed = PaimonSink(config, NAMES, "c1", PROFILE, on_step=crash)
    done = crashed.open().position
    again = CommitBatch((failed(1),), done.with_offset(1))
    with pytest.raises(SimulatedCrashError):
        crashed.commit(again)
    run(config, [failed(1)])
    assert [ledger_counts(config)[1, number] for number in (1, 2, 3)] == [1, 1, 0]
    repositioner.make(repositioner.again([1]))
    run(config, [failed(1)])
    assert ledger_counts(config)[1, 3] == 1
    assert audit(config, NAMES, "c1").is_clean


def test_going_back_leaves_rows_with_clips_done(config: CatalogConfig, repositioner: Repositioner) -> None:
    move = repositioner.to_offset(2)
    assert (move.num_read_again, move.num_left_done, move.num_skipped) == (2, 2, 0)
    repositioner.make(move)
    run(config, [processed(3), processed(4)])
    assert clip_counts(config) == {0: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    assert audit(config, NAMES, "c1").is_clean


def test_going_forward_finishes_rows_whose_commit_was_cut_in_two(config: CatalogConfig) -> None:
    append_raw(config, ["v6", "v7"])

    def crash(step: str) -> None:
        if step == "after_ledger_publish":
            raise SimulatedCrashError

    crashed = PaimonSink(config, NAMES, "c1", PROFILE, on_step=crash)
    done = crashed.open().position
    with pytest.raises(SimulatedCrashError):
        crashed.commit(CommitBatch((processed(6),), done.with_offset(6)))
    repositioner = Repositioner(config, NAMES, "c1")
    move = repositioner.to_offset(8)
    assert move.num_skipped == 1
    repositioner.make(move)
    assert list(run(config, [processed(6)]).position.missing(8)) == [OffsetRange(6, 7)]
    assert clip_counts(config)[6] == ledger_counts(config)[6, 1] == 1
    # Row 7 was left out, and the audit says so.
    (detail,) = audit(config, NAMES, "c1").details
    assert "lacks row 7 of db.raw_videos" in detail


def test_commit_that_is_cut_in_two_while_a_plan_is_made_is_finished(
    config: CatalogConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_raw(config, ["v6"])

    def crash(step: str) -> None:
        if step == "after_ledger_publish":
            raise SimulatedCrashError

    running = PaimonSink(config, NAMES, "c1", PROFILE, on_step=crash)
    done = running.open().position
    repositioner = Repositioner(config, NAMES, "c1")
    read_ledger, batches = repositioner._index, [CommitBatch((processed(6),), done.with_offset(6))]

    def read_and_let_commit() -> LedgerIndex:
        index = read_ledger()
        while batches:
            with pytest.raises(SimulatedCrashError):
                running.commit(batches.pop())
        return index

    monkeypatch.setattr(repositioner, "_index", read_and_let_commit)
    with pytest.raises(FencedError, match="plan it again"):
        repositioner.make(repositioner.to_offset(7))
    repositioner.make(repositioner.to_offset(7))
    run(config, [processed(6)])
    assert clip_counts(config)[6] == ledger_counts(config)[6, 1] == 1
    assert audit(config, NAMES, "c1").is_clean


def test_going_forward_skips_rows_and_the_audit_says_so(config: CatalogConfig, repositioner: Repositioner) -> None:
    append_raw(config, ["v6", "v7", "v8"])
    move = repositioner.to_offset(8)
    assert (move.num_read_again, move.num_skipped) == (0, 2)
    repositioner.make(move)
    assert run(config, [processed(8)]).position == Position(8)
    report = audit(config, NAMES, "c1")
    assert (report.missing, report.duplicated, report.unaccounted) == (2, 0, 0)


@pytest.mark.parametrize("shards", [(WHOLE, WHOLE), (Shard(1, 2), Shard(1, 2)), (Shard(1, 2), Shard(0, 3))])
def test_skip_is_remembered_when_its_markers_have_expired(tmp_path: Path, shards: tuple[Shard, Shard]) -> None:
    config = make_warehouse(tmp_path)
    append_raw(config, [f"v{n}" for n in range(12)])
    before, after = shards
    for index in range(before.count):
        PaimonSink(config, NAMES, "c1", PROFILE, shard=Shard(index, before.count)).open()
    sink = PaimonSink(config, NAMES, "c1", PROFILE, shard=before)
    done = sink.open().position
    # One kept, one failed; then everything up to the ninth is skipped, of this shard.
    rows = [before.index, before.index + before.count]
    offsets = [OffsetRange(row_id, row_id + 1) for row_id in rows]
    sink.commit(CommitBatch((processed(rows[0]), failed(rows[1])), done.union(offsets)))
    sink.close()
    mover = Repositioner(config, NAMES, "c1", before)
    mover.make(mover.to_offset(9))
    # Back again: what was skipped stays so.
    mover.make(mover.to_offset(2 * before.count))
    other = PaimonSink(config, NAMES, "other", PROFILE)
    other.open()
    other.commit(CommitBatch((processed(0),), Position(1)))
    for name in (NAMES.ledger, NAMES.curated):
        expire_all_but_newest(config, name)
    if after.count != before.count:
        Rescaler(config, NAMES, "c1").rescale(after.count)
    recovered = PaimonSink(config, NAMES, "c1", PROFILE, shard=after).open()
    left = [row_id for row_id in range(12) if recovered.share.owes(row_id) and not recovered.position.covers(row_id)]
    assert left == [n for n in range(12) if after.owns(n) and (n >= 9 or not before.owns(n))]


def test_skip_that_was_cut_off_before_it_was_noted_is_noted_when_it_is_asked_for_again(
    config: CatalogConfig, repositioner: Repositioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_raw(config, ["v6", "v7", "v8"])
    with monkeypatch.context() as patched:
        patched.setattr(Skips, "note", _away)
        with pytest.raises(StoreUnavailableError):
            repositioner.make(repositioner.to_offset(8))
    again = repositioner.to_offset(8)
    assert again.num_skipped == 0
    head = table(config, NAMES.curated).snapshot_manager().get_latest_snapshot().id
    repositioner.make(again)
    assert table(config, NAMES.curated).snapshot_manager().get_latest_snapshot().id == head
    store = TakedownStore(config, NAMES.control)
    assert Skips(store).of("c1", "db.raw_videos") == (Base(WHOLE, Position(8)),)


def _away(*_: object) -> None:
    raise StoreUnavailableError


def test_position_that_is_there_already_changes_nothing(repositioner: Repositioner) -> None:
    move = repositioner.to_offset(6)
    assert move.proposed == move.current
    assert (move.num_read_again, move.num_skipped) == (0, 0)


def test_plan_that_a_commit_has_overtaken_is_refused(config: CatalogConfig, repositioner: Repositioner) -> None:
    append_raw(config, ["v6"])
    move = repositioner.again([1])
    run(config, [processed(6)])
    with pytest.raises(FencedError, match="plan it again"):
        repositioner.make(move)


def test_running_copy_is_fenced_by_the_change(config: CatalogConfig, repositioner: Repositioner) -> None:
    append_raw(config, ["v6"])
    running = PaimonSink(config, NAMES, "c1", PROFILE)
    running.open()
    repositioner.make(repositioner.again([1]))
    with pytest.raises(FencedError):
        running.commit(CommitBatch((processed(6),), Position(7)))
