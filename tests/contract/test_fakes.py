"""The fakes keep what the real adapters keep, so a test on fakes says something about them."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from consumers.testing import (
    FakePool,
    FakeSink,
    FakeSource,
    FakeTables,
    failed_outcome,
    kept_outcome,
    make_video,
    rejected_outcome,
)
from schemas.records import ProcessedVideo, Stage
from tests.contract.report_suite import ReportSuite
from tests.contract.sink_suite import SinkContract
from tests.contract.source_suite import SourceContract
from tests.support.pool_processors import task


class Rows:
    def __init__(self):
        self.source = FakeSource()

    def append(self, num_rows):
        start = self.source.head().next_offset
        self.source.append(*(make_video(row_id) for row_id in range(start, start + num_rows)))

    def delete(self, *offsets):
        self.source.delete(*offsets)


class Tables:
    def __init__(self):
        self.tables = FakeTables()

    def sink(self, *faults):
        return FakeSink(self.tables, faults)

    def video(self, row_id, num_clips):
        video = make_video(row_id)
        outcome = kept_outcome(video, num_clips) if num_clips else rejected_outcome(video)
        return ProcessedVideo(video, outcome, 1, datetime(2026, 1, 1, tzinfo=UTC))

    def failed_video(self, row_id):
        return ProcessedVideo(make_video(row_id), failed_outcome(), 1, datetime(2026, 1, 1, tzinfo=UTC))

    def ledger(self):
        return Counter(self.tables.ledger)

    def num_clips(self):
        return len(self.tables.clips)

    def num_distinct_clips(self):
        return len(set(self.tables.clips))


class TestFakeSource(SourceContract):
    @pytest.fixture
    def rows(self):
        return Rows()


class TestFakeSink(SinkContract):
    @pytest.fixture
    def tables(self):
        return Tables()


class TestFakePoolReport(ReportSuite):
    @pytest.fixture
    def pool(self):
        return FakePool(capacity=4)

    @pytest.fixture
    def hold(self):
        def hold_at(pool, row_id, stage):
            future = pool.submit(task(row_id))
            pool.take(row_id, stage, num_asking=int(stage is Stage.CAPTION))
            return future

        return hold_at

    @pytest.fixture
    def let_go(self, pool):
        return lambda: [pool.finish(row_id) for row_id in list(pool.open_tasks)]
