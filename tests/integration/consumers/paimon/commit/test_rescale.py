"""Shards on real tables: each does its part, and their number changes without loss or repeat."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from consumers.errors import ConfigurationError, FencedError
from consumers.members.sharding import share_of
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.recovery import Recovery
from consumers.paimon.commit.reposition import Repositioner
from consumers.paimon.commit.rescale import Rescaler
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import AuditReport, audit
from consumers.paimon.reading.ledger import LedgerReader
from consumers.paimon.reading.progress import PaimonProgress
from consumers.paimon.source.row_source import RowIdSource
from consumers.ports import CommitBatch, Recovered, SourceHead
from consumers.testing import SimulatedCrashError
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo, RawVideo
from schemas.shards import Shard
from tests.support.rescaling import cut_off_rescale
from tests.support.stores import warehouse_of
from tests.support.warehouse import (
    NAMES,
    PROFILE,
    append_raw,
    clip_counts,
    expire_all_but_newest,
    failed,
    ledger_counts,
    processed,
    table,
)


@pytest.fixture
def config(request: pytest.FixtureRequest, tmp_path: Path) -> CatalogConfig:
    made = warehouse_of(request, tmp_path)
    append_raw(made, (f"v{n}" for n in range(20)))
    return made


class Part:
    """One shard of consumer ``main``: reads what is left to it and commits what the test picks."""

    def __init__(self, config: CatalogConfig, shard: str, die_at: str | None = None) -> None:
        def on_step(step: str) -> None:
            if step == die_at:
                raise SimulatedCrashError

        self._source = RowIdSource(config, NAMES.raw)
        self._sink = PaimonSink(config, NAMES, "main", PROFILE, shard=Shard.parse(shard), on_step=on_step)
        self.recovered: Recovered = self._sink.open()
        self.position = self.recovered.position

    def left(self) -> list[int]:
        return [item.row_id for item in self._items() if isinstance(item, RawVideo)]

    def commit(self, *row_ids: int, outcomes: tuple[ProcessedVideo, ...] = ()) -> None:
        """Commit these rows and everything that is not this shard's; without any, all that is left."""
        items = list(self._items())
        own = [item.row_id for item in items if isinstance(item, RawVideo)]
        videos = outcomes or tuple(processed(row_id) for row_id in row_ids or own)
        done = [item.range for item in items if not isinstance(item, RawVideo)]
        done += [OffsetRange(video.video.row_id, video.video.row_id + 1) for video in videos]
        self.position = self.position.union(done)
        self._sink.commit(CommitBatch(videos, self.position))

    def _items(self) -> list[object]:
        source = share_of(self._source, self.recovered.share)
        return list(source.read(list(self.position.missing(source.head().next_offset))))


def audited(config: CatalogConfig) -> AuditReport:
    report = audit(config, NAMES, "main")
    assert report.is_clean, report
    return report


def assert_each_row_once(config: CatalogConfig, num_rows: int) -> None:
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(num_rows)})
    assert clip_counts(config) == Counter(range(num_rows))
    report = audited(config)
    assert (report.rows, report.pending) == (num_rows, 0)


def test_shards_do_their_own_rows_beside_each_other(config: CatalogConfig) -> None:
    parts = [Part(config, f"{index}/3") for index in range(3)]
    assert [part.left() for part in parts] == [list(range(index, 20, 3)) for index in range(3)]
    parts[1].commit(7, 1)
    parts[0].commit()
    parts[2].commit(2)
    report = audited(config)
    assert (report.ledger_rows, report.pending) == (10, 10)
    committed = LedgerReader(config, NAMES, "main").committed()
    assert committed is not None
    assert (committed.num_shards, committed.num_missing(SourceHead(1, 20, None)), committed.position) == (
        3,
        10,
        Position(4),
    )
    mark = PaimonProgress(config, NAMES, "main", shard=Shard(1, 3)).last_commit()
    assert mark is not None
    assert mark.share.num_missing(mark.position, 20) == 5
    for part in parts:
        part.commit()
    assert_each_row_once(config, 20)


@pytest.mark.parametrize("config", ["disk", "s3"], indirect=True)
def test_shards_change_1_to_3_to_2_while_they_run_and_every_row_stands_once(config: CatalogConfig) -> None:
    whole = Part(config, "0/1")
    whole.commit(0, 1, 2, 5, 9, 19)
    assert Rescaler(config, NAMES, "main").rescale(3).watermark == 3
    with pytest.raises(FencedError, match="divided into 3 shards"):
        whole.commit(3)
    append_raw(config, (f"v{20 + n}" for n in range(10)))
    parts = [Part(config, f"{index}/3") for index in range(3)]
    assert parts[0].left() == [3, 6, 12, 15, 18, 21, 24, 27]
    parts[0].commit(27, 6)
    parts[1].commit()
    # Shard 2 has done nothing when the number changes again.
    report = Rescaler(config, NAMES, "main").rescale(2)
    assert (report.before, report.after, report.has_changed) == (3, 2, True)
    for part in parts[:1]:
        with pytest.raises(FencedError):
            part.commit(3)
    audited(config)
    halves = [Part(config, f"{index}/2") for index in range(2)]
    halves[0].commit(8)
    halves[1].commit()
    again = Part(config, "0/2")
    again.commit()
    assert_each_row_once(config, 30)
    assert again.position == Position(30)
    assert Part(config, "0/2").recovered.share.bases == ()


@pytest.mark.parametrize("step", ["after_ledger_publish", "before_curated_write", "after_curated_write"])
def test_rows_of_a_shard_that_died_between_the_tables_go_to_the_new_owner(config: CatalogConfig, step: str) -> None:
    Part(config, "0/2").commit(4)
    with pytest.raises(SimulatedCrashError):
        Part(config, "1/2", die_at=step).commit(5, 11)
    Rescaler(config, NAMES, "main").rescale(3)
    audited(config)
    parts = [Part(config, f"{index}/3") for index in range(3)]
    assert parts[2].left() == [2, 5, 8, 11, 14, 17]
    for part in parts:
        part.commit()
    assert_each_row_once(config, 20)


def test_shard_that_was_between_its_tables_when_they_changed_stops_and_loses_nothing(config: CatalogConfig) -> None:
    reached: list[str] = []

    class Rescaling(Part):
        def __init__(self) -> None:
            super().__init__(config, "0/1")
            self._sink._on_step = self._step  # type: ignore[assignment]

        def _step(self, step: str) -> None:
            if step == "after_ledger_publish" and not reached:
                reached.append(step)
                Rescaler(config, NAMES, "main").rescale(2)

    with pytest.raises(FencedError):
        Rescaling().commit(0, 1, 2)
    for index in range(2):
        Part(config, f"{index}/2").commit()
    assert_each_row_once(config, 20)


def test_rescale_cut_off_between_the_tables_starts_no_shard_until_it_is_repeated(
    config: CatalogConfig,
) -> None:
    Part(config, "0/1").commit(0, 5)
    cut_off_rescale(config, 2)
    for shard in ("0/1", "0/2"):
        with pytest.raises(ConfigurationError, match="sluice rescale"):
            Part(config, shard)
    assert Rescaler(config, NAMES, "main").rescale(2).has_changed
    for index in range(2):
        Part(config, f"{index}/2").commit()
    assert_each_row_once(config, 20)


def test_rescale_cut_off_while_the_first_copy_ever_starts_is_completed_by_the_same_call(config: CatalogConfig) -> None:
    rescales = [Rescaler(config, NAMES, "main")]

    def on_step(step: str) -> None:
        if step == "after_ledger_claim" and rescales:
            cut_off_rescale(config, 2)
            # The copy has not claimed the curated table yet, which knows of no shard.
            assert rescales.pop().rescale(2).has_changed

    with pytest.raises(ConfigurationError, match=r"0/1 is not one of its shards"):
        PaimonSink(config, NAMES, "main", PROFILE, on_step=on_step).open()
    for index in range(2):
        Part(config, f"{index}/2").commit()
    assert_each_row_once(config, 20)


def test_shard_of_another_number_is_refused_and_told_about_rescale(config: CatalogConfig) -> None:
    Part(config, "0/1").commit(0)
    with pytest.raises(ConfigurationError, match=r"0/3 is not one of its shards.*has 1.*`sluice rescale 3`"):
        Part(config, "0/3")
    assert not Rescaler(config, NAMES, "main").rescale(1).has_changed
    with pytest.raises(ConfigurationError, match="within 1 and 1024"):
        Rescaler(config, NAMES, "main").rescale(0)
    with pytest.raises(ConfigurationError, match="has never run"):
        Rescaler(config, NAMES, "nobody").rescale(2)


def test_second_copy_of_a_shard_fences_the_first_and_not_its_siblings(config: CatalogConfig) -> None:
    first, sibling = Part(config, "0/2"), Part(config, "1/2")
    second = Part(config, "0/2")
    sibling.commit(1)
    with pytest.raises(FencedError, match="newer copy"):
        first.commit(0)
    second.commit()
    sibling.commit()
    assert_each_row_once(config, 20)


def test_shards_whose_snapshots_all_expired_go_on_from_the_ledger(config: CatalogConfig) -> None:
    Part(config, "0/1").commit(0, 1, 2, 6)
    Rescaler(config, NAMES, "main").rescale(3)
    parts = [Part(config, f"{index}/3") for index in range(3)]
    parts[0].commit()
    with pytest.raises(SimulatedCrashError):
        Part(config, "1/3", die_at="after_ledger_publish").commit(4, 19)
    other = PaimonSink(config, NAMES, "other", PROFILE)
    other.open()
    for name in (NAMES.ledger, NAMES.curated):
        expire_all_but_newest(config, name)
    again = [Part(config, f"{index}/3") for index in range(3)]
    assert [part.left() for part in again] == [[], [4, 7, 10, 13, 16, 19], [5, 8, 11, 14, 17]]
    assert again[0].position == Position(21)
    for part in again:
        part.commit()
    assert_each_row_once(config, 20)


def test_rescale_after_everything_expired_takes_the_positions_from_the_rows(config: CatalogConfig) -> None:
    Part(config, "0/1").commit(0, 1, 2, 6)
    PaimonSink(config, NAMES, "other", PROFILE).open()
    for name in (NAMES.ledger, NAMES.curated):
        expire_all_but_newest(config, name)
    assert Rescaler(config, NAMES, "main").rescale(2).watermark == 3
    for index in range(2):
        Part(config, f"{index}/2").commit()
    assert_each_row_once(config, 20)


def test_replay_asked_for_before_a_rescale_is_made_after_it(config: CatalogConfig) -> None:
    whole = Part(config, "0/1")
    whole.commit(outcomes=(processed(0), failed(1), processed(2), failed(3)))
    repositioner = Repositioner(config, NAMES, "main")
    repositioner.make(repositioner.again([1, 3]))
    Rescaler(config, NAMES, "main").rescale(2)
    half = Part(config, "1/2")
    assert half.left()[:3] == [1, 3, 5]
    half.commit(outcomes=(failed(1), processed(3)))
    assert [ledger_counts(config)[row_id, 2] for row_id in (0, 1, 2, 3)] == [0, 1, 0, 1]
    sharded = Repositioner(config, NAMES, "main", Shard(1, 2))
    move = sharded.again([0, 1])
    assert move.num_read_again == 1
    sharded.make(move)
    half = Part(config, "1/2")
    half.commit(outcomes=(failed(1),))
    assert ledger_counts(config)[1, 3] == 1
    audited(config)


def test_recovery_of_a_shard_reads_nothing_of_its_siblings(config: CatalogConfig) -> None:
    Part(config, "0/2").commit(0, 2)
    Part(config, "1/2").commit(3)
    tables = (table(config, NAMES.ledger), table(config, NAMES.curated))
    heads = [found.snapshot_manager().get_latest_snapshot() for found in tables]
    ledger, curated = Recovery(*tables, "main", "db.raw_videos", Shard(1, 2)).reconcile(*heads)
    assert ledger.position == curated.position
    assert list(curated.position.missing(6)) == [OffsetRange(0, 3), OffsetRange(5, 6)]
