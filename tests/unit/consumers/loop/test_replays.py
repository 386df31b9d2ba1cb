"""Rows processed once more while everything else goes on, on fakes."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.errors import FencedError, PositionExpiredError, StoreUnavailableError
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.replays import LoopEndedError
from consumers.loop.reports import Phase
from consumers.testing import (
    FakePool,
    FakeSink,
    FakeSource,
    SimulatedCrashError,
    SinkFault,
    failed_outcome,
    kept_outcome,
    make_video,
)
from schemas.positions import OffsetRange, Position
from tests.support.loop_rig import CONFIG, Rig


def fails_once(row_ids):
    """Return a script by which these rows fail the first time, and all others are kept."""
    left = set(row_ids)

    def script(task):
        if task.video.row_id in left:
            left.discard(task.video.row_id)
            return failed_outcome()
        return kept_outcome(task.video)

    return script


def had_failures(source, row_ids):
    """Return the tables after a run over ``source`` in which these rows failed."""
    rig = Rig(source, FakePool(script=fails_once(row_ids)))
    rig.run()
    assert sorted(rig.tables.failures) == sorted(row_ids)
    return rig.tables


def ask(rig, *row_ids):
    return rig.processor.replay(row_ids).result(10)


def test_replayed_row_goes_to_the_pool_beside_what_is_in_flight():
    source = FakeSource(4)
    tables = had_failures(source, [1])
    rig = Rig(source, FakePool(capacity=8), tables=tables)
    with rig.running():
        source.append(make_video(4), make_video(5))
        rig.clock.advance(1)
        rig.pool.wait_for(2)
        assert ask(rig, 1).accepted == {1}
        assert tables.position == Position(1, (OffsetRange(2, 4),))
        rig.pool.wait_for(3)
        assert sorted(rig.pool.open_tasks) == [1, 4, 5]
        rig.pool.finish(1)
        # Somebody waits for it: it is committed at once, whatever else is in flight.
        rig.recorder.wait_for(lambda r: r.num_committed == 1)
        assert sorted(rig.pool.open_tasks) == [4, 5]
        assert tables.position == Position(4)
        rig.pool.finish(4)
        rig.pool.finish(5)
    assert sorted(tables.ledger) == [0, 1, 1, 2, 3, 4, 5]
    assert tables.duplicates() == []
    assert tables.failures == {}


def test_replay_comes_before_the_backlog_that_is_being_read():
    source = FakeSource(3)
    tables = had_failures(source, [0, 2])
    source.append(*(make_video(row_id) for row_id in range(3, 100)))
    rig = Rig(source, FakePool(capacity=2), tables=tables)
    with rig.running():
        rig.pool.wait_for(2)
        assert ask(rig, 0, 2).accepted == {0, 2}
        rig.pool.finish(3)
        rig.pool.finish(4)
        rig.pool.wait_for(4)
        assert sorted(rig.pool.open_tasks) == [0, 2]
        rig.pool.finish(0)
        rig.pool.wait_for(5)
        assert sorted(rig.pool.open_tasks) == [2, 5]
        rig.processor.request_stop()
        for row_id in sorted(rig.pool.open_tasks):
            rig.pool.finish(row_id)
    assert tables.position == Position(6)
    rest = Rig(source, FakePool(script=lambda task: kept_outcome(task.video)), tables=tables)
    rest.run()
    assert tables.position == Position(100)
    assert tables.duplicates() == []


def test_row_that_is_being_processed_is_refused_as_busy_and_the_others_go():
    source = FakeSource(4)
    tables = had_failures(source, [1, 2, 3])
    config = replace(CONFIG, commit=CommitPolicy(interval_s=60))
    rig = Rig(source, FakePool(capacity=8), tables=tables, config=config)
    with rig.running():
        assert ask(rig, 1, 2).accepted == {1, 2}
        rig.pool.wait_for(2)
        answer = ask(rig, 1, 2, 3)
        assert (answer.accepted, answer.busy) == ({3}, {1, 2})
        rig.pool.wait_for(3)
        rig.pool.finish(1, failed_outcome())
        rig.recorder.wait_for(lambda r: r.num_finished == 1)
        # Finished, and not committed while the others are open.
        assert ask(rig, 1).busy == {1}
        rig.pool.finish(2)
        rig.pool.finish(3)
        rig.recorder.wait_for(lambda r: r.num_committed == 3)
        assert ask(rig, 1).accepted == {1}
        rig.pool.wait_for(4)
        rig.pool.finish(1)
    assert sorted(tables.ledger) == [0, 1, 1, 1, 2, 2, 3, 3]
    assert tables.duplicates() == []


def test_rows_that_did_not_fail_or_are_not_there_are_unfit_and_nothing_is_committed():
    source = FakeSource(3)
    tables = had_failures(source, [])
    rig = Rig(source, FakePool(), tables=tables)
    with rig.running():
        answer = ask(rig, 0, 2, 77)
        assert (answer.accepted, answer.unfit) == (frozenset(), {0, 2, 77})
    assert rig.sink.batches == []


def test_replayed_row_that_is_gone_is_finished_without_a_further_run():
    source = FakeSource(3)
    tables = had_failures(source, [1])
    source.delete(1)
    rig = Rig(source, FakePool(), tables=tables)
    with rig.running():
        assert ask(rig, 1).accepted == {1}
        assert rig.processor.wait_until(lambda status: status.num_replays == 0 and status.position == Position(3), 10)
    assert sorted(tables.ledger) == [0, 1, 2]


def test_rows_whose_changes_have_expired_are_refused_and_the_consumer_goes_on():
    class Expired(FakeSource):
        first = 0

        def read(self, ranges):
            if ranges[0].start < self.first:
                raise PositionExpiredError("gone")
            return super().read(ranges)

    source = Expired(8)
    tables = had_failures(source, [1, 2, 5, 6])
    source.first = 4
    rig = Rig(source, FakePool(script=lambda task: kept_outcome(task.video)), tables=tables)
    with rig.running():
        answer = ask(rig, 1, 2, 5, 6)
        assert (answer.accepted, answer.expired) == ({5, 6}, {1, 2})
        assert rig.processor.wait_until(lambda status: status.position == Position(8), 10)


def test_paused_consumer_notes_the_replay_and_processes_it_when_it_is_resumed():
    source = FakeSource(2)
    tables = had_failures(source, [0])
    rig = Rig(source, FakePool(), tables=tables)
    with rig.running():
        rig.processor.pause()
        rig.wait_for_phase(Phase.PAUSED)
        assert ask(rig, 0).accepted == {0}
        rig.settle()
        assert rig.pool.submitted == []
        assert rig.processor.snapshot().phase is Phase.PAUSED
        rig.processor.resume()
        rig.pool.wait_for(1)
        rig.pool.finish(0)
    assert sorted(tables.ledger) == [0, 0, 1]


def test_next_run_processes_what_was_asked_for_and_not_done():
    source = FakeSource(2)
    tables = had_failures(source, [0])
    rig = Rig(source, FakePool(), tables=tables)
    with rig.running():
        assert ask(rig, 0).accepted == {0}
        rig.pool.wait_for(1)
        rig.processor.request_stop(drain_timeout_s=0)
    after = Rig(source, FakePool(), tables=tables)
    with after.running():
        after.pool.wait_for(1)
        assert after.processor.wait_until(lambda status: status.num_replays == 1, 10)
        assert ask(after, 0).busy == {0}
        after.pool.finish(0)
        assert after.processor.wait_until(lambda status: status.num_replays == 0, 10)
    assert sorted(tables.ledger) == [0, 0, 1]
    assert tables.duplicates() == []


def test_loop_that_has_ended_refuses():
    rig = Rig(FakeSource(), FakePool())
    with rig.running():
        pass
    with pytest.raises(LoopEndedError):
        ask(rig, 0)


def test_request_that_a_stop_overtakes_is_refused():
    source = FakeSource(2)
    tables = had_failures(source, [0])
    rig = Rig(source, FakePool(), tables=tables)
    rig.processor.request_stop()
    answer = rig.processor.replay([0])
    rig.processor.run()
    assert isinstance(answer.exception(10), LoopEndedError)
    assert tables.position == Position(2)


def test_fenced_copy_refuses_and_changes_nothing():
    source = FakeSource(2)
    tables = had_failures(source, [0])
    older = Rig(source, FakePool(), tables=tables)
    with older.running(raises=FencedError):
        older.wait_for_phase(Phase.RUNNING)
        FakeSink(tables).open()
        with pytest.raises(LoopEndedError):
            ask(older, 0)
    assert tables.position == Position(2)


def test_store_that_is_away_answers_once_it_is_back():
    source = FakeSource(2)
    tables = had_failures(source, [0])
    rig = Rig(source, FakePool(), tables=tables, faults=[SinkFault.BEFORE, SinkFault.BETWEEN, SinkFault.ANSWER_LOST])
    with rig.running():
        assert ask(rig, 0).accepted == {0}
        rig.pool.wait_for(1)
        rig.pool.finish(0)
    assert sorted(tables.ledger) == [0, 0, 1]


def test_ledger_that_cannot_be_read_is_an_answer_and_the_consumer_goes_on():
    class Away(FakeSink):
        def replayable(self, row_ids):
            raise StoreUnavailableError("the ledger is away")

    source = FakeSource(1)
    rig = Rig(source, FakePool(script=lambda task: kept_outcome(task.video)))
    rig.processor._committer._sink = Away(rig.tables)
    with rig.running():
        with pytest.raises(StoreUnavailableError, match="ledger is away"):
            ask(rig, 0)
        assert rig.processor.wait_until(lambda status: status.position == Position(1), 10)


lives = st.lists(st.lists(st.sampled_from([None, *SinkFault]), max_size=4), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    failing=st.sets(st.integers(0, 9), min_size=1),
    asked=st.lists(st.sets(st.integers(0, 11), min_size=1), max_size=4),
    lives=lives,
    capacity=st.integers(1, 4),
    num_new=st.integers(0, 4),
)
def test_whatever_crashes_each_replay_that_was_answered_is_one_further_run(failing, asked, lives, capacity, num_new):
    source = FakeSource(10)
    tables = had_failures(source, failing)
    source.append(*(make_video(10 + number) for number in range(num_new)))
    requests = iter(asked)
    accepted = []
    for faults in (*lives, ()):
        rig = Rig(source, FakePool(capacity, lambda task: failed_outcome()), tables=tables, faults=faults)
        answers = [rig.processor.replay(rows) for rows in (next(requests, None),) if rows]
        with suppress(SimulatedCrashError):
            rig.run()
        accepted += [answer.result(10).accepted for answer in answers if answer.exception(10) is None]
    assert tables.position == Position(10 + num_new)
    assert tables.replays == Position()
    # Whatever is asked for is a dead letter, and fails again; a request that a crash cut off may be noted or not.
    num_runs = {row_id: tables.ledger.count(row_id) for row_id in range(10)}
    for row_id in range(10):
        num_accepted = sum(row_id in rows for rows in accepted)
        num_asked = sum(row_id in rows for rows in asked)
        assert 1 + num_accepted <= num_runs[row_id] <= 1 + (num_asked if row_id in failing else 0)
    assert tables.duplicates() == []
