"""The truth about lag: while paused, dead, idle for an hour, stuck, and with snapshots that add no rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from consumers.errors import StoreUnavailableError
from consumers.lag import ObservedState, Verdict
from consumers.ports import CommitMark, Retention, RowOrigin, SourceHead
from consumers.testing import FakeClock, FakeControlStore
from schemas.control import AuditEntry, Desired, DesiredState
from schemas.positions import OffsetRange, Position
from schemas.shards import Shard, Share
from service.host.hosting import Host, HostedConsumer
from service.host.supervisor import Incarnation, Supervisor
from service.observe.activity import ConsumerActivity
from service.observe.events import EventBus
from service.observe.prober import Prober


@dataclass
class Tables:
    """A progress reader over two made-up tables: which snapshot brought which rows, and what is committed."""

    clock: FakeClock
    expires: bool = False

    def __post_init__(self) -> None:
        self.snapshots: list[tuple[int, datetime]] = []
        self.mark: CommitMark | None = None
        self.siblings: tuple[CommitMark, ...] = ()
        self.num_failures = 0

    def land(self, num_rows: int) -> None:
        """Commit a snapshot; without rows it is a compaction."""
        before = self.snapshots[-1][0] if self.snapshots else 0
        self.snapshots.append((before + num_rows, self.clock.now()))

    def commit(self, position: Position) -> None:
        sequence = 1 if self.mark is None else self.mark.sequence + 1
        self.mark = CommitMark(position, sequence, 1, self.clock.now(), sequence)

    def head(self) -> SourceHead:
        if self.num_failures:
            self.num_failures -= 1
            raise StoreUnavailableError("away")
        if not self.snapshots:
            return SourceHead(None, 0, None)
        return SourceHead(len(self.snapshots), *self.snapshots[-1])

    def last_commit(self) -> CommitMark | None:
        return self.mark

    def commits(self) -> tuple[CommitMark, ...]:
        return (*((self.mark,) if self.mark else ()), *self.siblings)

    def recent_commits(self, limit: int) -> list[CommitMark]:
        return [self.mark] if self.mark else []

    def origin(self, offset: int) -> RowOrigin | None:
        for index, (end, at) in enumerate(self.snapshots):
            if end > offset:
                return RowOrigin(index + 1, at, True)
        return None

    def retention(self, offset: int) -> Retention | None:
        origin = self.origin(offset)
        if not self.expires or origin is None:
            return None
        newest_at = self.snapshots[-1][1]
        return Retention(origin.snapshot_id, origin.committed_at, len(self.snapshots), newest_at, 3600.0, 1, 1_000_000)

    def mean_bytes(self, offsets: OffsetRange) -> float | None:
        return 100.0


class World:
    """A host whose consumer does what the test says, on a clock that the test moves."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.tables = Tables(self.clock)
        self.control = FakeControlStore()
        events = EventBus(self.clock)
        activity = ConsumerActivity(self.clock, lambda kind, data: None)
        self.prober = Prober(lambda: self.tables, self.clock, activity.totals)
        self.supervisor = _Supervisor(self.clock)
        hosted = HostedConsumer("c1", self.supervisor, activity, self.prober)
        self.host = Host({"c1": hosted}, self.control, self.clock, events)

    def pass_time(self, seconds: float, step_s: float = 10.0) -> None:
        """Let time pass, with a probe every ``step_s``."""
        left = seconds
        while left > 0:
            self.clock.advance(min(step_s, left))
            left -= step_s
            self.prober.probe_once()

    def wish(self, state: DesiredState, until: datetime | None = None) -> None:
        now = self.clock.now()
        self.control.write(
            AuditEntry(now.isoformat(), "test", "c1", "a", "o", now), Desired(state, "a", now, until=until)
        )
        self.host.refresh()

    @property
    def verdict(self) -> Verdict | None:
        return self.host.view("c1").verdict


class _Supervisor(Supervisor):
    """Never started: only its status is asked for."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__("c1", _never, clock)
        self.observed = ObservedState.RUNNING
        self.intake_since_s: float | None = 0.0

    def status(self):  # type: ignore[no-untyped-def]
        return replace(super().status(), observed=self.observed, intake_since_s=self.intake_since_s)


def _never() -> Incarnation:
    raise AssertionError("never built")


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_claimed_before_the_first_probe(world: World) -> None:
    assert world.prober.last is None
    assert world.verdict is None


def test_lag_while_paused_grows_with_the_clock_and_the_table(world: World) -> None:
    world.tables.land(10)
    world.tables.commit(Position(10))
    world.wish(DesiredState.PAUSED)
    world.supervisor.observed, world.supervisor.intake_since_s = ObservedState.PAUSED, None
    world.tables.land(5)
    world.pass_time(120)
    last = world.prober.last
    assert last is not None
    assert (last.lag.records, last.lag.seconds, last.lag.num_bytes) == (5, 120.0, 500)
    assert world.verdict is Verdict.PAUSED


def test_dead_consumer_is_stalled_although_nobody_runs_it(world: World) -> None:
    world.supervisor.observed, world.supervisor.intake_since_s = ObservedState.STOPPED, None
    world.tables.land(10)
    world.pass_time(400)
    assert world.verdict is Verdict.STALLED


def test_idle_for_an_hour_is_idle_with_no_lag_at_all(world: World) -> None:
    world.tables.land(10)
    world.tables.commit(Position(10))
    world.pass_time(3600)
    last = world.prober.last
    assert last is not None
    assert (last.lag.records, last.lag.seconds, last.lag.snapshots) == (0, 0.0, 0)
    assert world.verdict is Verdict.IDLE
    # The first row after that hour makes it current, never stalled.
    world.tables.land(1)
    world.pass_time(2, 2)
    assert world.verdict is Verdict.CURRENT


def test_stuck_stage_is_stalled_once_nothing_has_been_committed_for_long(world: World) -> None:
    world.tables.land(10)
    world.pass_time(10)
    world.tables.commit(Position(3))
    world.pass_time(200)
    assert world.verdict is not Verdict.STALLED
    world.pass_time(101)
    assert world.verdict is Verdict.STALLED
    world.tables.commit(Position(4))
    world.prober.probe_once()
    assert world.verdict is not Verdict.STALLED


def test_compaction_snapshots_in_between_add_no_lag_and_no_age(world: World) -> None:
    world.tables.land(10)
    world.tables.commit(Position(10))
    for _ in range(5):
        world.pass_time(60)
        world.tables.land(0)
    world.prober.probe_once()
    last = world.prober.last
    assert last is not None
    assert (last.lag.records, last.lag.seconds) == (0, 0.0)
    assert world.verdict is Verdict.IDLE
    world.tables.land(1)
    world.tables.land(0)
    world.pass_time(30)
    last = world.prober.last
    assert last is not None
    # Two snapshots, and the age of the one that brought the row.
    assert (last.lag.records, last.lag.snapshots, last.lag.seconds) == (1, 2, 30.0)


def test_headroom_of_a_paused_consumer_runs_down_and_ends_with_its_backlog(world: World) -> None:
    world.tables.expires = True
    world.tables.land(3)
    world.tables.land(1)
    world.wish(DesiredState.PAUSED)
    world.pass_time(600)
    probe = world.prober.probe_once()
    assert probe.lag.headroom_s == 3000.0
    world.pass_time(3600)
    probe = world.prober.probe_once()
    assert probe.lag.headroom_s == 0.0
    world.tables.commit(Position(4))
    assert world.prober.probe_once().lag.headroom_s is None


def test_verdict_turns_from_falling_behind_to_catching_up_with_the_rates(world: World) -> None:
    for _ in range(30):
        world.tables.land(10)
        world.pass_time(10)
        world.tables.commit(Position(world.tables.snapshots[-1][0] // 3))
    world.prober.probe_once()
    assert world.verdict is Verdict.FALLING_BEHIND
    for step in range(30):
        world.pass_time(10)
        world.tables.commit(Position(100 + step * 6))
    world.prober.probe_once()
    assert world.verdict is Verdict.CATCHING_UP


def test_time_to_live_ends_a_pause_by_itself(world: World) -> None:
    world.wish(DesiredState.PAUSED, until=world.clock.now() + timedelta(minutes=5))
    world.prober.probe_once()
    assert world.verdict is Verdict.PAUSED
    world.pass_time(301)
    assert world.verdict is Verdict.IDLE


def test_probe_that_fails_keeps_the_last_measurement_and_its_time(world: World) -> None:
    world.tables.land(1)
    first = world.prober.probe_once()
    world.tables.num_failures = 1
    world.clock.advance(60)
    with pytest.raises(StoreUnavailableError):
        world.prober.probe_once()
    assert world.prober.last is first


def test_history_keeps_one_point_every_ten_seconds_for_an_hour(world: World) -> None:
    world.tables.land(1)
    world.pass_time(2 * 3600, step_s=5.0)
    history = world.prober.history()
    assert len(history) == 360
    assert history[-1].seconds == pytest.approx(2 * 3600, abs=10)


def sibling(world: World, index: int, position: Position) -> CommitMark:
    return CommitMark(position, 1, 1, world.clock.now(), 1, Share(Shard(index, 3)))


def test_lag_and_rates_of_a_shard_are_those_of_the_whole_consumer() -> None:
    world = World()
    world.tables.land(90)
    world.tables.mark = sibling(world, 0, Position(90))
    world.tables.siblings = (sibling(world, 1, Position(30)), sibling(world, 2, Position(60)))
    probe = world.prober.probe_once()
    assert probe.lag.records == 20 + 10
    assert [probe.num_waiting(each) for each in probe.commits] == [0, 20, 10]
    assert probe.watermark == 30
    world.pass_time(60)
    world.tables.siblings = (sibling(world, 1, Position(90)), sibling(world, 2, Position(90)))
    world.pass_time(60)
    assert world.prober.last is not None
    assert world.prober.last.lag.records == 0
    assert world.prober.last.throughput[1].records_per_s == pytest.approx(30 / 120)


def test_consumer_is_stalled_when_one_shard_has_work_and_commits_nothing() -> None:
    world = World()
    world.tables.land(90)
    stuck = sibling(world, 1, Position(30))
    for _ in range(40):
        world.tables.mark = sibling(world, 0, Position(90))
        world.tables.siblings = (stuck, sibling(world, 2, Position(90)))
        world.pass_time(10)
    assert world.verdict is Verdict.STALLED
