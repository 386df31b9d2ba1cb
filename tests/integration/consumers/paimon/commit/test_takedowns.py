"""Videos that are replaced or deleted: only the newest version's clips stand, whatever finishes when."""

from __future__ import annotations

import random
import tracemalloc
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import FencedError, StoreUnavailableError
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.paimon.commit.ledger_index import LedgerIndex, digests
from consumers.paimon.commit.side import STEPS
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.versions import VersionIndex
from consumers.paimon.reading.audit import AuditReport, audit
from consumers.ports import CommitBatch
from consumers.testing import FakeClock, FakePool, SimulatedCrashError
from schemas.positions import OffsetRange
from schemas.records import ProcessedVideo, RawVideo, RowKind, SkippedRange, VideoOutcome, VideoTask
from tests.support.changelog import COLUMNS, KEYED, KeyedTable
from tests.support.stores import warehouse_of
from tests.support.warehouse import AT, PROFILE, but_for_what_others_have_too, expire_all_but_newest, processed, rows_of

SOURCE = f"db.{KEYED.raw}"


@pytest.fixture
def keyed(request: pytest.FixtureRequest, tmp_path: Path) -> KeyedTable:
    return KeyedTable(warehouse_of(request, tmp_path))


def _done(video: RawVideo, num_kept: int = 2) -> ProcessedVideo:
    if video.row_kind is RowKind.DELETE:
        return ProcessedVideo(video, VideoOutcome(is_takedown=True), 0, AT)
    return replace(processed(video.row_id, num_kept, source=SOURCE), video=video)


class Consumer:
    """Consumer ``main`` over the keyed table: commits the rows that the test picks, in the order it picks."""

    def __init__(self, keyed: KeyedTable, die_at: str | None = None, consumer: str = "main") -> None:
        def on_step(step: str) -> None:
            if step == die_at:
                raise SimulatedCrashError

        self._source = keyed.source()
        self._sink = PaimonSink(keyed.config, KEYED, consumer, PROFILE, has_gaps=True, on_step=on_step)
        self.position = self._sink.open().position

    def left(self) -> list[RawVideo]:
        return [item for item in self._items() if isinstance(item, RawVideo)]

    def commit(self, *videos: RawVideo) -> None:
        items = self._items()
        gaps = [item.range for item in items if isinstance(item, SkippedRange)]
        done = [OffsetRange(video.row_id, video.row_id + 1) for video in videos]
        position = self.position.union((*gaps, *done))
        batch = CommitBatch(tuple(map(_done, videos)), position)
        for _ in range(5):
            try:
                self._sink.commit(batch)
                break
            except StoreUnavailableError:
                continue
        self.position = position

    def _items(self) -> list[RawVideo | SkippedRange]:
        end = self._source.head().next_offset
        return list(self._source.read(list(self.position.missing(end))))


def standing(keyed: KeyedTable, consumer: str = "main") -> Counter[str]:
    """How many clips of each video stand in the curated table, as ``video@snapshot``."""
    rows = rows_of(
        keyed.config, KEYED.curated, ["clip_id", "video_id", "source_snapshot_id", "consumer", "source_row_id"]
    )
    mine = [row for row in rows if row["consumer"] == consumer]
    assert len({row["clip_id"] for row in mine}) == len(mine)
    return Counter(f"{row['video_id']}@{row['source_snapshot_id']}" for row in mine)


def audited(keyed: KeyedTable) -> AuditReport:
    report = audit(keyed.config, KEYED, "main", columns=COLUMNS)
    assert but_for_what_others_have_too(report).is_clean, report
    return report


def _life(keyed: KeyedTable) -> None:
    """Insert four videos, replace two, delete two, bring one back."""
    keyed.change("+Ia", "+Ib", "+Ic", "+Id")
    keyed.change("+Ua", "-Db")
    keyed.change("+Ub", "-Dc")
    keyed.change("+Ua", "+Ic")
    keyed.change("-Dc")


# Two snapshots come before: see _begin.
_STANDING = Counter({"a@6": 2, "b@5": 2, "d@3": 2})


@pytest.mark.parametrize("keyed", ["disk", "rest"], indirect=True)
def test_update_retires_the_older_clips_and_delete_all_of_them(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    consumer = Consumer(keyed)
    consumer.commit(*consumer.left())
    assert standing(keyed) == Counter({"a@1": 2, "b@1": 2})
    keyed.change("+Ua", "-Db")
    assert audited(keyed).pending == 2
    consumer.commit(*consumer.left())
    assert standing(keyed) == Counter({"a@2": 2})
    rows = rows_of(keyed.config, KEYED.ledger, ["video_id", "row_kind", "source_key", "status", "source_snapshot_id"])
    told = sorted((row["video_id"], row["row_kind"], row["status"], row["source_snapshot_id"]) for row in rows)
    assert told == [
        ("a", "+I", "curated", 1),
        ("a", "+U", "curated", 2),
        ("b", "+I", "curated", 1),
        ("b", "-D", "retired", 2),
    ]
    assert {row["source_key"] for row in rows if row["video_id"] == "a"} == {'["a"]'}
    report = audited(keyed)
    assert (report.rows, report.ledger_rows, report.clips, report.clips_retired) == (1, 4, 2, 4)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_of_completion_leaves_the_newest_versions_alone(keyed: KeyedTable, seed: int) -> None:
    _begin(keyed)
    _life(keyed)
    pick = random.Random(seed)
    consumer = Consumer(keyed)
    while left := consumer.left():
        pick.shuffle(left)
        consumer.commit(*left[: pick.randint(1, 4)])
        audited(keyed)
        if pick.random() < 0.3:
            consumer = Consumer(keyed)
    assert standing(keyed) == _STANDING
    assert audited(keyed).pending == 0


def _begin(keyed: KeyedTable) -> None:
    """Let the consumer meet the empty table first, so that it sees every change."""
    keyed.change("+Iz")
    consumer = Consumer(keyed)
    consumer.commit(*consumer.left())
    keyed.change("-Dz")
    consumer.commit(*consumer.left())
    assert standing(keyed) == Counter()


def test_late_result_of_an_older_version_does_not_undo_a_takedown(keyed: KeyedTable) -> None:
    _begin(keyed)
    keyed.change("+Ia")
    keyed.change("-Da")
    consumer = Consumer(keyed)
    inserted, deleted = consumer.left()
    consumer.commit(deleted)
    consumer.commit(inserted)
    assert standing(keyed) == Counter()
    assert audited(keyed).clips_retired == 4


@pytest.mark.parametrize("step", STEPS[3:])
@pytest.mark.parametrize("is_late", [False, True])
def test_crash_at_any_step_loses_and_undoes_no_takedown(keyed: KeyedTable, step: str, is_late: bool) -> None:
    _begin(keyed)
    keyed.change("+Ia", "+Ib")
    keyed.change("-Da", "+Ub")
    consumer = Consumer(keyed)
    old, new = consumer.left()[:2], consumer.left()[2:]
    first, second = (new, old) if is_late else (old, new)
    consumer.commit(*first)
    crashing = Consumer(keyed, die_at=step)
    with pytest.raises(SimulatedCrashError):
        crashing.commit(*second)
    audited(keyed)
    successor = Consumer(keyed)
    successor.commit(*successor.left())
    assert standing(keyed) == Counter({"b@4": 2})
    assert audited(keyed).pending == 0


def test_two_consumers_that_delete_from_the_same_files_both_get_through(keyed: KeyedTable) -> None:
    keyed.change("+Ia", "+Ib")
    consumers = [Consumer(keyed, consumer=name) for name in ("main", "other")]
    for consumer in consumers:
        consumer.commit(*consumer.left())
    keyed.change("-Da", "+Ub")

    def interfere(step: str) -> None:
        if step == "after_curated_write" and consumers:
            other = consumers.pop()
            other.commit(*other.left())

    first = consumers[0]
    first._sink._on_step = interfere
    first.commit(*first.left())
    for name in ("main", "other"):
        assert standing(keyed, name) == Counter({"b@2": 2})
    audited(keyed)


def test_takedowns_are_recovered_from_the_ledger_after_everything_expired(keyed: KeyedTable) -> None:
    _begin(keyed)
    keyed.change("+Ia", "+Ib")
    keyed.change("-Da")
    consumer = Consumer(keyed)
    inserted_a, inserted_b, deleted = consumer.left()
    assert (inserted_a.video_id, deleted.video_id) == ("a", "a")
    consumer.commit(deleted)
    PaimonSink(keyed.config, KEYED, "other", PROFILE).open()
    for name in (KEYED.ledger, KEYED.curated):
        expire_all_but_newest(keyed.config, name)
    successor = Consumer(keyed)
    assert [video.row_id for video in successor.left()] == [inserted_a.row_id, inserted_b.row_id]
    successor.commit(*successor.left())
    assert standing(keyed) == Counter({"b@3": 2})
    audited(keyed)


@pytest.mark.parametrize("is_replaced", [False, True])
def test_late_result_from_before_a_takedown_does_not_come_back_after_everything_expired(
    keyed: KeyedTable, is_replaced: bool
) -> None:
    _begin(keyed)
    keyed.change("+Ia", "+Ib")
    keyed.change("+Ua" if is_replaced else "-Da")
    consumer = Consumer(keyed)
    older, neighbour, newer = consumer.left()
    consumer.commit(newer)
    expected = Counter({f"a@{newer.snapshot_id}": 2}) if is_replaced else Counter()
    assert standing(keyed) == expected

    def everything_expires() -> None:
        PaimonSink(keyed.config, KEYED, "other", PROFILE).open()
        for name in (KEYED.ledger, KEYED.curated):
            expire_all_but_newest(keyed.config, name)

    everything_expires()
    # The result comes late, in the process that asked for it, and once more in the one after it.
    with pytest.raises(FencedError, match="expired before they were seen"):
        consumer.commit(older)
    assert standing(keyed) == expected
    successor = Consumer(keyed)
    assert [video.row_id for video in successor.left()] == [older.row_id, neighbour.row_id]
    successor.commit(older)
    everything_expires()
    last = Consumer(keyed)
    assert [video.row_id for video in last.left()] == [neighbour.row_id]
    last.commit(neighbour)
    assert standing(keyed) == expected + Counter({"b@3": 2})
    assert audited(keyed).pending == 0


@pytest.mark.parametrize("keyed", ["disk", "s3"], indirect=True)
def test_takedown_cut_in_two_is_completed_after_everything_expired(keyed: KeyedTable) -> None:
    _begin(keyed)
    keyed.change("+Ia", "+Ib")
    consumer = Consumer(keyed)
    consumer.commit(*consumer.left())
    keyed.change("-Da")
    crashing = Consumer(keyed, die_at="after_ledger_publish")
    with pytest.raises(SimulatedCrashError):
        crashing.commit(*crashing.left())
    PaimonSink(keyed.config, KEYED, "other", PROFILE).open()
    for name in (KEYED.ledger, KEYED.curated):
        expire_all_but_newest(keyed.config, name)
    successor = Consumer(keyed)
    assert [video.row_kind for video in successor.left()] == [RowKind.DELETE]
    successor.commit(*successor.left())
    assert standing(keyed) == Counter({"b@3": 2})
    audited(keyed)


def test_loop_takes_deletes_past_the_pool(keyed: KeyedTable) -> None:
    _begin(keyed)
    keyed.change("+Ia", "+Ib")
    keyed.change("-Da")

    def script(task: VideoTask) -> VideoOutcome:
        assert task.video.row_kind is not RowKind.DELETE
        return _done(task.video).outcome

    sink = PaimonSink(keyed.config, KEYED, "main", PROFILE, has_gaps=True)
    processor = Processor(
        keyed.source(), sink, FakePool(script=script), FakeClock(), config=ProcessorConfig(max_in_flight_videos=4)
    )
    report = processor.run(until_caught_up=True)
    assert (report.counts.num_curated, report.counts.num_retired, report.counts.num_failed) == (2, 1, 0)
    assert report.counts.num_skipped_offsets == 0
    assert standing(keyed) == Counter({"b@3": 2})


def test_keys_are_found_whether_they_were_there_or_came_later() -> None:
    keys = np.array([b"", *digests(['["a"]', '["b"]', '["a"]'])], dtype="S16")
    none = np.empty(0, dtype=np.int64)
    index = LedgerIndex(np.array([1, 5, 6, 9]), np.ones(4, dtype=np.int32), keys, none, digests([]), 0, 0)
    versions = VersionIndex(index)
    assert (versions.newest('["a"]'), versions.newest('["b"]'), versions.newest('["c"]')) == (9, 6, None)
    versions.add([('["b"]', 4), ('["c"]', 7), ('["c"]', 7)])
    assert versions.superseded(['["a"]', '["b"]', '["c"]', '["d"]']) == {5, 4}
    assert index.newest_versions().tolist() == [True, False, True, True]
    assert index.newest_versions(np.array([True, True, True, False])).tolist() == [True, True, True, True]


def test_index_of_versions_takes_a_few_bytes_for_each_key_however_they_came() -> None:
    none = np.empty(0, dtype=np.int64)
    keys = digests([f"old {number}" for number in range(1000)])
    index = LedgerIndex(np.arange(1000), np.ones(1000, dtype=np.int32), keys, none, digests([]), 0, 0)
    tracemalloc.start()
    versions = VersionIndex(index, most_recent=500)
    versions.add((f"new {number}", 1000 + number) for number in range(5000))
    versions.add((f"new {number}", 60_000) for number in range(0, 5000, 1000))
    versions.add((f"new {number}", 1000 + number) for number in range(5000))
    num_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(versions) == 6005
    assert versions.superseded(f"new {number}" for number in range(2000)) == {1000, 2000}
    assert versions.newest("old 7") == 7
    assert num_bytes < 6005 * 24 + 500 * 450 + 20_000


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 20)), max_size=40), st.integers(1, 5))
def test_index_of_versions_is_what_a_dictionary_would_be(rows: list[tuple[str, int]], most_recent: int) -> None:
    none = np.empty(0, dtype=np.int64)
    index = LedgerIndex(none, none.astype(np.int32), digests([]), none, digests([]), 0, 0)
    versions, model = VersionIndex(index, most_recent), defaultdict[str, set[int]](set)
    for key, offset in rows:
        versions.add([(key, offset)])
        model[key].add(offset)
    assert {key: versions.offsets(key) for key in model} == model
    assert len(versions) == sum(map(len, model.values()))
