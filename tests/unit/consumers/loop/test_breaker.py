"""The breaker by itself, and in the loop: failures that look like ours are not held against videos."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import BreakerOpenError, WorkerDiedError
from consumers.loop.breaker import Breaker, BreakerPolicy, Evidence, evidence_of
from consumers.loop.config import ProcessorConfig
from consumers.loop.retry import RetryPolicy
from consumers.ports import BreakerState
from consumers.testing import FakePool, FakeSource, failed_outcome, kept_outcome
from schemas.positions import Position
from schemas.records import FailureKind
from tests.support.loop_rig import Rig

POLICY = BreakerPolicy(min_videos=3, min_share=0.6, window_s=60, probe_base_s=10, probe_max_s=40)
AWAY = failed_outcome(FailureKind.TRANSIENT, "the store said 503")
HEALTHY, SUSPECT, NONE = Evidence.HEALTHY, Evidence.SUSPECT, Evidence.NONE


def make(policy=POLICY):
    # Without jitter each delay is half of its exponential.
    return Breaker(policy, lambda: 0.0)


def opened(at_s=0.0):
    breaker = make()
    for video in range(3):
        breaker.ended(video, SUSPECT, "503", at_s)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_a_burst_over_different_videos_opens_it_with_a_reason():
    breaker = opened(7.0)
    assert breaker.reason == "3 of 3 videos failed within 0 s, the last: 503"
    assert breaker.opened_at_s == 7.0
    assert breaker.next_probe_s == 12.0


@given(st.lists(st.sampled_from(list(Evidence)), max_size=60), st.integers(2, 5))
def test_one_video_never_opens_it_however_often_it_fails(endings, min_videos):
    breaker = make(replace(POLICY, min_videos=min_videos))
    for second, evidence in enumerate(endings):
        breaker.ended(7, evidence, "x", float(second))
    assert breaker.is_closed


def test_bad_videos_among_good_ones_do_not_open_it():
    breaker = make()
    for video in range(100):
        breaker.ended(video, SUSPECT if video % 2 else HEALTHY, "x", video * 0.1)
    assert breaker.is_closed


def test_failures_far_apart_do_not_open_it():
    breaker = make()
    for video in range(10):
        breaker.ended(video, SUSPECT, "x", video * 61.0)
    assert breaker.is_closed


def test_failed_probes_wait_longer_and_a_good_one_closes_it():
    breaker, now_s, waits_s = opened(), 0.0, []
    for _ in range(5):
        waits_s.append(breaker.next_probe_s - now_s)
        now_s = breaker.next_probe_s
        assert not breaker.may_probe(now_s - 0.1)
        assert breaker.may_probe(now_s)
        breaker.probe_started(0)
        assert not breaker.may_probe(now_s)
        breaker.ended(0, SUSPECT, "still 503", now_s)
    assert waits_s == [5, 10, 20, 20, 20]
    assert breaker.reason == "probe 5 failed: still 503"
    breaker.probe_started(1)
    breaker.ended(1, HEALTHY, "", now_s)
    assert breaker.is_closed
    assert (breaker.reason, breaker.opened_at_s, breaker.next_probe_s) == (None, None, None)


def test_a_probe_that_says_nothing_is_followed_by_another_at_once():
    breaker = opened()
    breaker.probe_started(0)
    breaker.ended(0, NONE, "", 9.0)
    assert breaker.may_probe(9.0)


def test_late_ends_of_other_videos_neither_close_nor_delay_it():
    breaker = opened()
    breaker.ended(8, HEALTHY, "", 1.0)
    breaker.probe_started(0)
    breaker.ended(8, SUSPECT, "late", 6.0)
    assert breaker.state is BreakerState.PROBING
    with pytest.raises(RuntimeError, match="no probe is awaited"):
        breaker.probe_started(1)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(list(Evidence)), st.floats(0, 30)), max_size=80),
    st.integers(2, 6),
)
def test_it_opens_only_on_enough_different_suspects_and_gives_a_reason_exactly_while_open(story, min_videos):
    breaker, now_s, suspects = make(replace(POLICY, min_videos=min_videos)), 0.0, set()
    for video, evidence, wait_s in story:
        now_s += wait_s
        if breaker.may_probe(now_s):
            breaker.probe_started(video)
        was_closed = breaker.is_closed
        breaker.ended(video, evidence, "x", now_s)
        if was_closed and evidence is SUSPECT:
            suspects.add(video)
        if was_closed and not breaker.is_closed:
            assert len(suspects) >= min_videos
            suspects = set()
        assert (breaker.reason is None) == breaker.is_closed
        assert (breaker.opened_at_s is None) == breaker.is_closed


@pytest.mark.parametrize(
    ("ending", "evidence"),
    [
        (WorkerDiedError(), SUSPECT),
        (AWAY, SUSPECT),
        (failed_outcome(), NONE),
        (replace(failed_outcome(), bytes_read=10), HEALTHY),
        (replace(kept_outcome(FakeSource(1)._rows[0]), bytes_read=10), HEALTHY),
    ],
)
def test_what_an_ending_says_about_our_side(ending, evidence):
    assert evidence_of(ending) is evidence


@pytest.mark.parametrize(
    "bad", [{"min_videos": 1}, {"min_share": 0}, {"window_s": 0}, {"probe_base_s": 5, "probe_max_s": 4}]
)
def test_a_senseless_policy_is_refused(bad):
    with pytest.raises(ValueError, match="breaker"):
        BreakerPolicy(**bad)


CONFIG = ProcessorConfig(
    retry=RetryPolicy(max_attempts=2, max_worker_deaths=2, base_s=1, max_s=1, jitter=lambda: 0.0),
    breaker=POLICY,
    poll_interval_s=1,
    store_give_up_after_s=1000,
)


class World:
    """A store and workers that are at fault until :meth:`mend`; ``bad`` videos fail whatever happens."""

    def __init__(self, num_rows, fault=AWAY, bad=(), capacity=4):
        self.fault, self.bad = fault, set(bad)
        self.rig = Rig(FakeSource(num_rows), FakePool(capacity, self.script), config=CONFIG)
        self.told = []
        self.rig.recorder.breaker = lambda state, reason: self.told.append((state, reason))

    def script(self, task):
        if self.fault is not None:
            return self.fault
        return AWAY if task.video.row_id in self.bad else replace(kept_outcome(task.video), bytes_read=1)

    def mend(self):
        self.fault = None

    def let_time_pass(self, seconds):
        for _ in range(int(seconds)):
            self.rig.clock.advance(1)
            self.rig.settle()

    @property
    def status(self):
        return self.rig.processor.snapshot()


@pytest.mark.parametrize("fault", [AWAY, WorkerDiedError("the worker could not start")])
def test_a_fault_of_ours_holds_intake_dead_letters_nothing_and_ends_by_probing(fault):
    world = World(50, fault)
    with world.rig.running():
        world.let_time_pass(100)
        assert world.status.breaker is BreakerState.OPEN
        assert "probe" in world.status.breaker_reason
        calls_while_open = len(world.rig.pool.submitted)
        world.mend()
        world.let_time_pass(60)
        assert world.status.breaker is BreakerState.CLOSED
        assert world.status.lag == 0
    # 4 in flight, a probe each 20 s with the delay at its longest.
    assert calls_while_open < 30
    assert world.rig.tables.failures == {}
    assert sorted(world.rig.tables.ledger) == list(range(50))
    assert world.rig.tables.duplicates() == []
    assert world.told[0][0] is BreakerState.OPEN
    assert world.told[-1] == (BreakerState.CLOSED, None)


def test_one_video_is_with_the_pool_while_it_probes():
    world = World(50)
    with world.rig.running():
        world.let_time_pass(4)
        world.fault = None
        world.rig.pool._script = None
        world.let_time_pass(20)
        assert world.status.breaker is BreakerState.PROBING
        assert len(world.rig.pool.open_tasks) == 1
        world.rig.pool._script = world.script
        world.rig.pool.finish(next(iter(world.rig.pool.open_tasks)))
        world.let_time_pass(5)
        assert world.status.lag == 0


def test_videos_that_are_bad_by_themselves_cannot_keep_it_open():
    world = World(30, fault=None, bad=[0, 1, 2])
    with world.rig.running():
        world.let_time_pass(200)
        assert world.status.lag == 0
    assert sorted(world.rig.tables.failures) == [0, 1, 2]
    assert len(world.rig.tables.clips) == 27


def test_a_run_that_was_to_catch_up_ends_with_the_reason_and_loses_nothing():
    world = World(10)
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(world.rig.run)
        while not run.done():
            world.rig.clock.advance(10)
            world.rig.processor.wait_until(lambda status: False, 0.001)
        with pytest.raises(BreakerOpenError, match=r"the store said 503; \d videos are left to the next run"):
            run.result()
    assert world.rig.tables.failures == {}
    assert world.rig.tables.position == Position()
