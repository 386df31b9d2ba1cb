"""A publish succeeds, its answer is lost, and the store is away when the sink looks for what became of it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from consumers.errors import StoreUnavailableError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from consumers.ports import CommitBatch
from schemas.positions import OffsetRange, Position
from schemas.records import ProcessedVideo, RawVideo, RowKind, SkippedRange, VideoOutcome
from tests.support.changelog import COLUMNS, KEYED, KeyedTable
from tests.support.faulty_store import Fault, FaultyStore, Request, no_faults
from tests.support.s3_server import S3Server, make_s3_warehouse
from tests.support.warehouse import (
    AT,
    NAMES,
    PROFILE,
    append_raw,
    batch,
    clip_counts,
    ledger_counts,
    processed,
    rows_of,
)


@pytest.fixture
def store(s3_server: S3Server, caplog: pytest.LogCaptureFixture) -> Iterator[FaultyStore]:
    caplog.set_level(logging.CRITICAL)
    with FaultyStore(s3_server.port) as faulty:
        yield faulty


def _lose_answer(store: FaultyStore, name: str) -> None:
    """From the next publish to table ``name`` on, whose answer is lost, the store is away."""
    is_away = False

    def plan(request: Request) -> Fault:
        nonlocal is_away
        if is_away:
            return Fault.REFUSE
        if request.is_publish and f"/{name}/" in request.path:
            is_away = True
            return Fault.CUT_AFTER
        return Fault.NONE

    store.plan = plan


def _commit_through_outage(store: FaultyStore, sink: PaimonSink, name: str, work: CommitBatch) -> None:
    _lose_answer(store, name)
    with pytest.raises(StoreUnavailableError):
        sink.commit(work)
    store.plan = no_faults
    sink.commit(work)


def _warehouse(store: FaultyStore, server: S3Server, bucket: str) -> CatalogConfig:
    return make_s3_warehouse(store.endpoint, server.make_bucket(bucket))


class _Keyed:
    """Reads all changes of a keyed table and commits them."""

    def __init__(self, config: CatalogConfig) -> None:
        self.table = KeyedTable(config)
        self._source = self.table.source()
        self.sink = PaimonSink(config, KEYED, "main", PROFILE, has_gaps=True)
        self._position = self.sink.open().position

    def next_batch(self) -> CommitBatch:
        end = self._source.head().next_offset
        items = list(self._source.read(list(self._position.missing(end))))
        videos = [item for item in items if isinstance(item, RawVideo)]
        ranges = [item.range for item in items if isinstance(item, SkippedRange)]
        ranges += [OffsetRange(video.row_id, video.row_id + 1) for video in videos]
        self._position = self._position.union(ranges)
        return CommitBatch(tuple(map(_done, videos)), self._position)

    def standing(self) -> Counter[str]:
        rows = rows_of(self.table.config, KEYED.curated, ["video_id", "source_snapshot_id"])
        return Counter(f"{row['video_id']}@{row['source_snapshot_id']}" for row in rows)


def _done(video: RawVideo) -> ProcessedVideo:
    if video.row_kind is RowKind.DELETE:
        return ProcessedVideo(video, VideoOutcome(is_takedown=True), 0, AT)
    done = processed(video.row_id, 1, source=video.source_table)
    return ProcessedVideo(video, done.outcome, done.attempts, done.processed_at)


@pytest.mark.parametrize("name", [NAMES.ledger, NAMES.curated])
def test_takedown_and_update_are_not_forgotten(store: FaultyStore, s3_server: S3Server, name: str) -> None:
    consumer = _Keyed(_warehouse(store, s3_server, f"lost-{name.replace('_', '-')}"))
    consumer.table.change("+Ia", "+Ib", "+Ic")
    consumer.sink.commit(consumer.next_batch())
    assert consumer.standing() == Counter({"a@1": 1, "b@1": 1, "c@1": 1})
    consumer.table.change("+Ua", "-Db")
    _commit_through_outage(store, consumer.sink, name, consumer.next_batch())
    assert consumer.standing() == Counter({"a@2": 1, "c@1": 1})
    consumer.table.change("+Ua", "+Ib", "-Dc")
    _commit_through_outage(store, consumer.sink, name, consumer.next_batch())
    assert consumer.standing() == Counter({"a@3": 1, "b@3": 1})
    assert audit(consumer.table.config, KEYED, "main", columns=COLUMNS).is_clean


@pytest.mark.parametrize("name", [NAMES.ledger, NAMES.curated])
def test_larger_batch_after_the_outage_repeats_nothing_and_its_position_is_told(
    store: FaultyStore, s3_server: S3Server, name: str
) -> None:
    config = _warehouse(store, s3_server, f"larger-{name.replace('_', '-')}")
    append_raw(config, ["v0", "v1", "v2", "v3"])
    committed: list[Position] = []
    sink = PaimonSink(config, NAMES, "main", PROFILE, on_committed=committed.append)
    sink.open()
    _lose_answer(store, name)
    with pytest.raises(StoreUnavailableError):
        sink.commit(batch(Position(), [0, 1]))
    store.plan = no_faults
    sink.commit(batch(Position(), range(4)))
    assert committed == [Position(), Position(4)]
    assert ledger_counts(config) == Counter({(row_id, 1): 1 for row_id in range(4)})
    assert clip_counts(config) == Counter(range(4))
    assert audit(config, NAMES, "main").is_clean
