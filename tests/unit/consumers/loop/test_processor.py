"""The loop, driven by fakes: no time passes but that which the test lets pass."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.errors import FencedError, PoolLostError, StoreUnavailableError, WorkerDiedError
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.reports import EndReason, Phase
from consumers.loop.retry import RetryPolicy
from consumers.testing import (
    FakePool,
    FakeSource,
    FakeTables,
    SimulatedCrashError,
    SinkFault,
    failed_outcome,
    kept_outcome,
    make_video,
    rejected_outcome,
)
from schemas.positions import OffsetRange, Position
from schemas.records import FailureKind, RowKind, SkippedRange
from tests.support.loop_rig import CONFIG, Rig

DEATH = WorkerDiedError("the worker ended")


def outcome_by_row(task):
    """A mix by row id: kept, rejected, failed, flaky, poison."""
    kind = task.video.row_id % 5
    if kind == 0:
        return kept_outcome(task.video, num_clips=2)
    if kind == 1:
        return rejected_outcome(task.video)
    if kind == 2:
        return failed_outcome()
    if kind == 3:
        return failed_outcome(FailureKind.TRANSIENT) if task.attempt < 3 else kept_outcome(task.video)
    return DEATH


def test_a_mixed_backlog_gives_every_row_one_ledger_row_and_every_kept_clip_once():
    rig = Rig(FakeSource(50), FakePool(script=outcome_by_row))
    report = rig.run()
    assert report.reason is EndReason.CAUGHT_UP
    assert report.lag == 0
    assert sorted(rig.tables.ledger) == list(range(50))
    assert len(rig.tables.clips) == 10 * 2 + 10
    assert rig.tables.duplicates() == []
    assert rig.tables.position == Position(50)
    counts = report.counts
    assert (counts.num_curated, counts.num_rejected, counts.num_failed) == (20, 10, 20)
    assert {rig.tables.failures[row].error_class for row in range(4, 50, 5)} == {"poison_video"}


def test_an_empty_table_is_caught_up_without_a_commit():
    rig = Rig(FakeSource(), FakePool())
    assert rig.run().reason is EndReason.CAUGHT_UP
    assert rig.sink.batches == []


def test_rows_that_land_during_the_run_are_consumed_before_it_is_caught_up():
    source = FakeSource(1)

    def script(task):
        if task.video.row_id < 5:
            source.append(make_video(task.video.row_id + 1))
        return kept_outcome(task.video)

    rig = Rig(source, FakePool(script=script))
    assert rig.run().position == Position(6)


def test_deleted_rows_are_skipped_and_counted():
    source = FakeSource(10)
    source.delete(0, 3, 4, 5, 9)
    rig = Rig(source, FakePool(script=outcome_by_row))
    report = rig.run()
    assert report.counts.num_skipped_offsets == 5
    assert report.position == Position(10)
    assert sorted(rig.tables.ledger) == [1, 2, 6, 7, 8]


def test_a_row_without_a_usable_reference_is_dead_lettered_without_a_worker():
    source = FakeSource()
    source.append(make_video(0, defect="the descriptor is cut short"))
    rig = Rig(source, FakePool())
    rig.run()
    assert rig.pool.submitted == []
    assert rig.tables.failures[0].message == "the descriptor is cut short"


def test_an_exception_costs_one_video_only():
    def script(task):
        return ZeroDivisionError("a bug") if task.video.row_id == 3 else kept_outcome(task.video)

    rig = Rig(FakeSource(8), FakePool(script=script))
    report = rig.run()
    assert report.counts.num_curated == 7
    assert "ZeroDivisionError: a bug" in rig.tables.failures[3].message


def test_a_partial_batch_is_committed_within_the_interval():
    rig = Rig(FakeSource(2), FakePool())
    with rig.running():
        rig.pool.wait_for(2)
        rig.pool.finish(1)
        rig.recorder.wait_for(lambda r: r.num_finished == 1)
        rig.clock.advance(9.9)
        rig.settle()
        assert rig.tables.ledger == []
        rig.clock.advance(0.2)
        rig.recorder.wait_for(lambda r: r.num_committed == 1)
        assert rig.tables.position == Position.from_json('{"watermark":0,"done":[[1,2]]}')
        rig.pool.finish(0)
    assert rig.tables.position == Position(2)


def test_a_finished_batch_is_committed_at_once_when_there_is_nothing_else_to_do():
    rig = Rig(FakeSource(1), FakePool())
    with rig.running():
        rig.pool.wait_for(1)
        rig.pool.finish(0)
        rig.recorder.wait_for(lambda r: r.num_committed == 1)


def trickle(rig, num_videos, pause_s):
    """Let one video land each ``pause_s`` and be finished before the next one does."""
    for row_id in range(num_videos):
        rig.source.append(make_video(row_id))
        rig.clock.advance(pause_s)
        rig.recorder.wait_for(lambda r, done=row_id + 1: r.num_finished == done)
        rig.settle()


def test_a_steady_trickle_is_committed_once_an_interval_and_not_video_by_video():
    config = replace(CONFIG, commit=CommitPolicy(interval_s=60))
    rig = Rig(FakeSource(), FakePool(script=lambda task: kept_outcome(task.video)), config=config)
    with rig.running():
        trickle(rig, 120, 5)
        assert len(rig.sink.batches) <= 600 / 60 + 4
        assert len(rig.tables.ledger) >= 120 - 60 / 5
    assert sorted(rig.tables.ledger) == list(range(120))


def test_after_the_first_few_a_lone_video_waits_no_longer_than_an_interval():
    config = replace(CONFIG, commit=CommitPolicy(interval_s=60, max_early=1))
    rig = Rig(FakeSource(), FakePool(script=lambda task: kept_outcome(task.video)), config=config)
    with rig.running():
        trickle(rig, 2, 5)
        assert rig.tables.ledger == [0]
        rig.clock.advance(61)
        rig.recorder.wait_for(lambda r: r.num_committed == 2)


@pytest.mark.parametrize("how", ["pause", "request_stop"])
def test_a_pause_or_stop_commits_what_waits_at_once(how):
    config = replace(CONFIG, commit=CommitPolicy(interval_s=60, max_early=1))
    rig = Rig(FakeSource(), FakePool(script=lambda task: kept_outcome(task.video)), config=config)
    with rig.running():
        trickle(rig, 2, 5)
        assert rig.tables.ledger == [0]
        getattr(rig.processor, how)()
        rig.recorder.wait_for(lambda r: r.num_committed == 2)


def test_a_removed_video_goes_at_once_while_others_are_in_flight():
    rig = Rig(FakeSource(1), FakePool())
    with rig.running():
        rig.pool.wait_for(1)
        rig.source.append(
            replace(make_video(1), row_kind=RowKind.DELETE), replace(make_video(2), row_kind=RowKind.DELETE)
        )
        rig.clock.advance(1)
        rig.recorder.wait_for(lambda r: r.num_committed == 2)
        assert len(rig.sink.batches) == 1
        rig.pool.finish(0)


def test_offsets_of_others_make_no_commit_of_their_own_until_long_after():
    class Others(FakeSource):
        def read(self, ranges):
            for item in super().read(ranges):
                yield SkippedRange(OffsetRange(item.row_id, item.row_id + 1), is_expected=True)

    rig = Rig(Others(), FakePool())
    with rig.running():
        for row_id in range(20):
            rig.source.append(make_video(row_id))
            rig.clock.advance(20)
            rig.settle()
        assert rig.sink.batches == []
        rig.clock.advance(300)
        assert rig.processor.wait_until(lambda status: status.position == Position(20), 10)
        assert len(rig.sink.batches) == 1


def test_a_stop_finishes_and_commits_all_that_was_admitted():
    rig = Rig(FakeSource(100), FakePool(capacity=8))
    with rig.running():
        rig.pool.wait_for(8)
        rig.processor.request_stop()
        for row_id in reversed(range(8)):
            rig.pool.finish(row_id)
    assert rig.report.reason is EndReason.STOPPED
    assert rig.report.num_abandoned == 0
    assert len(rig.pool.submitted) == 8
    assert rig.tables.position == Position(8)


def test_a_stop_past_its_deadline_commits_what_is_finished_and_leaves_the_rest():
    rig = Rig(FakeSource(2), FakePool())
    with rig.running():
        rig.pool.wait_for(2)
        rig.pool.finish(0)
        rig.recorder.wait_for(lambda r: r.num_finished == 1)
        rig.processor.request_stop(drain_timeout_s=30)
        rig.wait_for_phase(Phase.DRAINING)
        rig.clock.advance(31)
    assert rig.report.reason is EndReason.DRAIN_INCOMPLETE
    assert rig.report.num_abandoned == 1
    assert rig.tables.position == Position(1)
    after = Rig(rig.source, FakePool(script=outcome_by_row), tables=rig.tables)
    after.run()
    assert rig.tables.position == Position(2)
    assert rig.tables.duplicates() == []


def test_stop_requested_before_the_run_starts_is_not_lost():
    rig = Rig(FakeSource(5), FakePool())
    rig.processor.request_stop()
    report = rig.processor.run()
    assert report.reason is EndReason.STOPPED
    assert rig.pool.submitted == []


def test_a_pause_commits_all_in_flight_and_a_resume_goes_on():
    rig = Rig(FakeSource(6), FakePool(capacity=2))
    with rig.running():
        rig.pool.wait_for(2)
        rig.processor.pause()
        rig.pool.finish(0)
        rig.pool.finish(1)
        rig.recorder.wait_for(lambda r: r.num_committed == 2)
        rig.wait_for_phase(Phase.PAUSED)
        assert len(rig.pool.submitted) == 2
        rig.processor.resume()
        rig.pool.wait_for(4)
        rig.pool.finish(2)
        rig.pool.finish(3)
        rig.pool.wait_for(6)
        rig.pool.finish(4)
        rig.pool.finish(5)
    assert rig.tables.position == Position(6)


def test_no_more_videos_are_read_than_may_be_in_flight():
    rig = Rig(FakeSource(1000), FakePool(capacity=500), config=replace(CONFIG, max_in_flight_videos=3))
    with rig.running():
        rig.pool.wait_for(3)
        rig.settle()
        assert len(rig.pool.open_tasks) == 3
        assert rig.source.num_pulled == 3
        for row_id in range(3):
            rig.pool.finish(row_id)
        rig.pool.wait_for(6)
        rig.processor.request_stop()
        for row_id in range(3, 6):
            rig.pool.finish(row_id)


def test_bytes_bound_the_videos_in_flight_and_a_larger_one_goes_alone():
    source = FakeSource()
    source.append(make_video(0, 60), make_video(1, 60), make_video(2, 1000), make_video(3, 10))
    seen = []

    def script(task):
        seen.append(sorted(rig.pool.open_tasks))

    rig = Rig(source, FakePool(capacity=10, script=script), config=replace(CONFIG, max_in_flight_bytes=100))
    with rig.running():
        for row_id in range(4):
            rig.pool.wait_for(row_id + 1)
            rig.pool.finish(row_id)
    assert seen == [[0], [1], [2], [3]]
    assert rig.tables.position == Position(4)


def test_finished_clips_that_fill_the_bytes_are_committed_early_to_let_the_next_video_in():
    def script(task):
        return kept_outcome(task.video, clip_bytes=90)

    config = replace(CONFIG, max_in_flight_bytes=100)
    rig = Rig(FakeSource(), FakePool(capacity=1, script=script), config=config)
    rig.source.append(*(make_video(row_id, 20) for row_id in range(5)))
    report = rig.run()
    assert report.counts.num_commits == 5
    assert rig.clock.monotonic_s() == 0


def test_a_batch_is_committed_when_its_clips_are_enough():
    config = replace(CONFIG, commit=CommitPolicy(interval_s=1e6, max_clips=4))
    rig = Rig(FakeSource(10), FakePool(script=lambda task: kept_outcome(task.video)), config=config)
    rig.run()
    assert [len(batch.videos) for batch in rig.sink.batches] == [4, 4, 2]


def test_a_retry_waits_for_its_backoff():
    retry = RetryPolicy(base_s=8, max_s=60, jitter=lambda: 0.0)
    rig = Rig(FakeSource(1), FakePool(), config=replace(CONFIG, retry=retry))
    with rig.running():
        rig.pool.wait_for(1)
        rig.pool.die(0)
        rig.recorder.wait_for(lambda r: len(r.retries) == 1)
        rig.clock.advance(3.9)
        rig.settle()
        assert len(rig.pool.submitted) == 1
        assert rig.processor.snapshot().num_in_flight == 1
        rig.clock.advance(0.2)
        rig.pool.wait_for(2)
        assert rig.pool.submitted[1].attempt == 2
        rig.pool.finish(0)
    assert rig.tables.position == Position(1)


def test_a_cancelled_future_counts_as_a_death():
    rig = Rig(FakeSource(1), FakePool())
    with rig.running():
        rig.pool.wait_for(1)
        rig.pool._futures[0].cancel()
        rig.pool.wait_for(2)
        rig.pool.finish(0)
    assert rig.report.counts.num_retries == 1
    assert rig.tables.position == Position(1)


@pytest.mark.parametrize("fault", [SinkFault.BEFORE, SinkFault.BETWEEN, SinkFault.ANSWER_LOST])
def test_a_store_that_is_away_for_a_while_gets_the_same_batch_again(fault):
    rig = Rig(FakeSource(20), FakePool(script=outcome_by_row), faults=[fault, fault, None, fault])
    rig.run()
    assert sorted(rig.tables.ledger) == list(range(20))
    assert rig.tables.duplicates() == []
    assert len(rig.tables.clips) == 4 * 2 + 4


def test_nothing_is_admitted_while_a_batch_cannot_be_committed():
    config = replace(CONFIG, commit=CommitPolicy(max_videos=2), store_base_s=4, store_max_s=4)
    rig = Rig(FakeSource(50), FakePool(capacity=2), config=config, faults=[SinkFault.BEFORE])
    with rig.running():
        rig.pool.wait_for(2)
        rig.pool.finish(0)
        rig.pool.wait_for(3)
        rig.pool.finish(1)
        rig.recorder.wait_for(lambda r: r.num_finished == 2)
        rig.settle()
        rig.pool.finish(2)
        rig.recorder.wait_for(lambda r: r.num_finished == 3)
        submitted = len(rig.pool.submitted)
        assert submitted <= 4
        assert rig.processor.snapshot().store_error == "the fake sink does not answer"
        rig.clock.advance(5)
        rig.recorder.wait_for(lambda r: r.num_committed >= 2)
        rig.processor.request_stop()
        for row_id in sorted(rig.pool.open_tasks):
            rig.pool.finish(row_id)
    assert rig.tables.duplicates() == []


def test_a_source_that_is_away_for_a_while_is_read_on():
    source = FakeSource(20)
    source.fail_next(3)

    def script(task):
        if task.video.row_id in {4, 11}:
            source.fail_next(2)
        return kept_outcome(task.video)

    rig = Rig(source, FakePool(script=script))
    assert rig.run().position == Position(20)
    assert len(rig.pool.submitted) == 20


def test_a_sink_that_is_away_at_the_start_is_opened_later():
    rig = Rig(FakeSource(3), FakePool(script=outcome_by_row))
    rig.sink.num_opens_to_fail = 3
    assert rig.run().position == Position(3)


def test_a_store_that_stays_away_ends_the_run_with_its_error():
    def script(task):
        rig.clock.advance(3)
        return kept_outcome(task.video)

    class Away(FakeSource):
        def head(self):
            rig.clock.advance(3)
            raise StoreUnavailableError("the store is gone")

    rig = Rig(Away(3), FakePool(script=script))
    with pytest.raises(StoreUnavailableError, match="gone"):
        rig.run()


def test_a_newer_copy_stops_the_older_one_and_nothing_is_written_twice():
    source, tables = FakeSource(4), FakeTables()
    older = Rig(source, FakePool(), tables=tables)
    newer = Rig(source, FakePool(script=outcome_by_row), tables=tables)
    with older.running(raises=FencedError):
        older.pool.wait_for(4)
        newer.run()
        for row_id in range(4):
            older.pool.finish(row_id)
    assert sorted(tables.ledger) == [0, 1, 2, 3]
    assert tables.duplicates() == []


def test_the_status_tells_lag_and_what_is_in_flight():
    rig = Rig(FakeSource(10), FakePool(capacity=3))
    with rig.running():
        rig.pool.wait_for(3)
        rig.settle()
        status = rig.processor.snapshot()
        assert (status.num_in_flight, status.in_flight_bytes, status.lag) == (3, 3000, 10)
        rig.processor.request_stop()
        for row_id in range(3):
            rig.pool.finish(row_id)
    status = rig.processor.snapshot()
    assert (status.phase, status.sequence, status.lag, status.num_in_flight) == (Phase.STOPPED, 1, 7, 0)


sink_faults = st.lists(st.sampled_from([None, *SinkFault]), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    behaviours=st.lists(st.integers(0, 4), min_size=1, max_size=25),
    deleted=st.sets(st.integers(0, 24)),
    max_clips=st.integers(1, 6),
    capacity=st.integers(1, 6),
    lives=st.lists(sink_faults, min_size=1, max_size=4),
)
def test_whatever_crashes_and_fails_every_row_ends_exactly_once(behaviours, deleted, max_clips, capacity, lives):
    source, tables = FakeSource(len(behaviours)), FakeTables()
    source.delete(*(offset for offset in deleted if offset < len(behaviours)))
    config = replace(CONFIG, commit=CommitPolicy(max_clips=max_clips, max_videos=3))

    def script(task):
        return outcome_by_row(replace(task, video=replace(task.video, row_id=behaviours[task.video.row_id])))

    def scripted(task):
        result = script(task)
        if isinstance(result, BaseException) or not result.clips:
            return result
        clips = tuple(replace(clip, clip_id=f"{task.video.row_id}-{clip.index}") for clip in result.clips)
        return replace(result, clips=clips)

    for faults in (*lives, ()):
        rig = Rig(source, FakePool(capacity, scripted), config=config, tables=tables, faults=faults)
        try:
            rig.run()
        except SimulatedCrashError:
            continue
    rows = [offset for offset in range(len(behaviours)) if offset not in deleted]
    expected_clips = {0: 2, 3: 1}
    assert sorted(tables.ledger) == rows
    assert tables.duplicates() == []
    assert len(tables.clips) == sum(expected_clips.get(behaviours[row], 0) for row in rows)
    assert tables.position == Position(len(behaviours))


def test_a_lost_pool_ends_the_run_commits_what_was_finished_and_blames_no_video():
    def script(task):
        return kept_outcome(task.video) if task.video.row_id == 0 else PoolLostError("the node has ended")

    rig = Rig(FakeSource(3), FakePool(script=script))
    with pytest.raises(PoolLostError):
        rig.run()
    assert (rig.tables.ledger, rig.tables.failures, rig.recorder.retries) == ([0], {}, [])
    again = Rig(rig.source, FakePool(script=lambda task: kept_outcome(task.video)), tables=rig.tables)
    again.run()
    assert sorted(rig.tables.ledger) == [0, 1, 2]
    assert rig.tables.duplicates() == []


def test_a_pool_lost_while_draining_leaves_its_videos_to_the_next_run():
    rig = Rig(FakeSource(2), FakePool())
    with rig.running():
        rig.pool.wait_for(2)
        rig.processor.request_stop()
        rig.wait_for_phase(Phase.DRAINING)
        rig.pool.finish(0)
        rig.pool.die(1, PoolLostError())
    assert (rig.report.reason, rig.report.num_abandoned) == (EndReason.DRAIN_INCOMPLETE, 1)
    assert rig.tables.ledger == [0]
