from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.lag import (
    Lag,
    LagPolicy,
    ObservedState,
    RateWindows,
    Situation,
    Throughput,
    Totals,
    Verdict,
    judge,
    measure_lag,
    retention_headroom_s,
    time_to_catch_up_s,
)
from consumers.ports import CommitMark, Retention, RowOrigin, SourceHead
from schemas.control import DesiredState
from schemas.positions import OffsetRange, Position

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
POLICY = LagPolicy()


def rates(records_per_s: float = 0.0, arrived_per_s: float = 0.0) -> Throughput:
    return Throughput(300.0, 300.0, records_per_s, arrived_per_s, 0.0, 0.0, 0.0, 0.0)


def mark(position: Position, ago_s: float = 10.0) -> CommitMark:
    return CommitMark(position, 1, 1, NOW - timedelta(seconds=ago_s), 1)


def situation(**changes: object) -> Situation:
    values: dict[str, object] = {
        "desired": DesiredState.RUNNING,
        "observed": ObservedState.RUNNING,
        "lag": Lag(0, 0, 0, 0.0),
        "throughput": rates(),
        "since_commit_s": 10.0,
        "since_started_s": 10_000.0,
        "since_arrival_s": 10.0,
    }
    return Situation(**(values | changes))  # type: ignore[arg-type]


def test_consumer_that_committed_everything_has_no_lag_however_long_it_is_idle() -> None:
    head = SourceHead(7, 100, NOW - timedelta(hours=1))
    assert measure_lag(head, [mark(Position(100), ago_s=3600)], None, None, NOW) == Lag(0, 0, 0, 0.0)


def test_lag_counts_gaps_below_the_watermark_only_once() -> None:
    head = SourceHead(9, 100, NOW)
    done = Position(10, (OffsetRange(20, 90),))
    lag = measure_lag(head, [mark(done)], RowOrigin(4, NOW - timedelta(seconds=90), True), 1000.0, NOW)
    assert lag == Lag(records=20, num_bytes=20_000, snapshots=6, seconds=90.0)


def test_consumer_that_never_committed_lags_by_the_whole_source() -> None:
    head = SourceHead(3, 50, NOW)
    lag = measure_lag(head, [], RowOrigin(1, NOW - timedelta(seconds=5), True), None, NOW)
    assert (lag.records, lag.num_bytes, lag.snapshots, lag.seconds) == (50, None, 3, 5.0)


def test_row_committed_by_a_fast_clock_is_not_negatively_late() -> None:
    head = SourceHead(1, 1, NOW)
    assert measure_lag(head, [], RowOrigin(1, NOW + timedelta(seconds=30), True), None, NOW).seconds == 0.0


def retention(num_newer: int, age_s: float | None, *, num_min: int = 1, num_max: int = 1000) -> Retention:
    needed_at = None if age_s is None else NOW - timedelta(seconds=age_s)
    return Retention(5, needed_at, 5 + num_newer, NOW, 3600.0, num_min, num_max)


@pytest.mark.parametrize(
    ("given_retention", "expected"),
    [
        (retention(20, 600.0), 3000.0),
        (retention(20, 7200.0), 0.0),
        (retention(20, None), 0.0),
        # Old, but among the newest ten that stay: two more snapshots, one in 100 s, have to come first.
        (retention(8, 4000.0, num_min=10), 1000.0),
        # Young, but a busy writer pushes it out: five more snapshots, one in 4 s.
        (retention(15, 60.0, num_max=20), 20.0),
        (retention(30, 60.0, num_max=20), 0.0),
        # The newest one: nothing tells when another comes.
        (retention(0, 7200.0, num_min=10), None),
        # A writer's clock that is ahead gives no more than the whole time.
        (retention(3, -30.0), 3600.0),
    ],
)
def test_headroom_is_the_time_until_the_rules_let_the_snapshot_go(
    given_retention: Retention, expected: float | None
) -> None:
    assert retention_headroom_s(given_retention, NOW) == expected


def test_lag_without_a_backlog_or_with_row_ids_has_no_headroom() -> None:
    head, origin = SourceHead(9, 100, NOW), RowOrigin(4, NOW - timedelta(seconds=90), True)
    assert measure_lag(head, [mark(Position(100))], None, None, NOW, retention(1, 90.0)).headroom_s is None
    assert measure_lag(head, [mark(Position(10))], origin, None, NOW).headroom_s is None
    assert measure_lag(head, [mark(Position(10))], origin, None, NOW, retention(1, 90.0)).headroom_s == 3510.0


BACKLOG = Lag(100, None, 5, 1000.0)


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.CURRENT),
        ({"since_arrival_s": 3600.0, "since_commit_s": 3600.0}, Verdict.IDLE),
        ({"since_arrival_s": None, "since_commit_s": None}, Verdict.IDLE),
        ({"lag": Lag(3, None, 1, 20.0)}, Verdict.CURRENT),
        ({"lag": BACKLOG, "throughput": rates(5, 1)}, Verdict.CATCHING_UP),
        ({"lag": BACKLOG, "throughput": rates(1, 5)}, Verdict.FALLING_BEHIND),
        ({"lag": BACKLOG, "throughput": rates(1, 1)}, Verdict.FALLING_BEHIND),
        ({"lag": BACKLOG, "since_commit_s": 400.0}, Verdict.STALLED),
        ({"lag": BACKLOG, "since_commit_s": None}, Verdict.STALLED),
        ({"lag": BACKLOG, "desired": DesiredState.PAUSED, "observed": ObservedState.PAUSED}, Verdict.PAUSED),
        ({"lag": BACKLOG, "desired": DesiredState.STOPPED, "since_commit_s": 9999.0}, Verdict.PAUSED),
        ({"lag": BACKLOG, "observed": ObservedState.RESTARTING}, Verdict.FAILED),
        ({"observed": ObservedState.FAILED, "desired": DesiredState.PAUSED}, Verdict.FAILED),
        # Idle for an hour, then one new row: there has been work for two seconds only.
        ({"lag": Lag(1, None, 1, 2.0), "since_commit_s": 3600.0}, Verdict.CURRENT),
        # Resumed a minute ago after a night's pause: it is not stalled, it has only just begun.
        ({"lag": BACKLOG, "since_commit_s": 30_000.0, "since_started_s": 60.0}, Verdict.FALLING_BEHIND),
        # A newer copy took over and died: no commit comes.
        (
            {"lag": BACKLOG, "observed": ObservedState.STOPPED, "since_commit_s": 900.0, "since_started_s": 1e9},
            Verdict.STALLED,
        ),
    ],
)
def test_verdict_says_what_is_the_case(changes: dict[str, object], verdict: Verdict) -> None:
    assert judge(situation(**changes), POLICY) is verdict


@given(
    lag_s=st.floats(0, 1e6),
    since_commit_s=st.none() | st.floats(0, 1e6),
    since_started_s=st.floats(0, 1e6),
    records=st.integers(1, 10**9),
)
def test_stalled_needs_work_intake_and_silence_all_long_enough(
    lag_s: float, since_commit_s: float | None, since_started_s: float, records: int
) -> None:
    verdict = judge(
        situation(lag=Lag(records, None, 1, lag_s), since_commit_s=since_commit_s, since_started_s=since_started_s),
        POLICY,
    )
    silent = since_commit_s is None or since_commit_s >= POLICY.stalled_after_s
    long_enough = lag_s >= POLICY.stalled_after_s and since_started_s >= POLICY.stalled_after_s and silent
    assert (verdict is Verdict.STALLED) == long_enough


def test_rates_are_measured_over_each_window() -> None:
    windows = RateWindows()
    for second in range(0, 1201, 10):
        # Ten records a second for 19 minutes, then nothing.
        done = 10 * min(second, 1140)
        windows.add(float(second), Totals(records=done, arrived=5 * second))
    one, five, fifteen = windows.rates(1200.0)
    assert one.records_per_s == 0.0
    assert five.records_per_s == pytest.approx(8.0)
    assert fifteen.records_per_s == pytest.approx(10 * 840 / 900)
    assert one.arrived_per_s == fifteen.arrived_per_s == pytest.approx(5.0)
    assert fifteen.ratio_to_arrival == pytest.approx(fifteen.records_per_s / 5)


def test_young_process_says_how_much_of_a_window_it_has_seen() -> None:
    windows = RateWindows()
    windows.add(0.0, Totals())
    windows.add(30.0, Totals(records=60))
    assert [rate.covered_s for rate in windows.rates(30.0)] == [30.0, 30.0, 30.0]
    assert windows.rates(30.0)[2].records_per_s == pytest.approx(2.0)


def test_no_observation_gives_no_rate() -> None:
    assert RateWindows().rates(5.0)[0].records_per_s == 0.0


def test_position_set_back_never_shows_as_negative_work() -> None:
    windows = RateWindows()
    windows.add(0.0, Totals(records=100))
    windows.add(10.0, Totals(records=40))
    windows.add(20.0, Totals(records=60))
    assert windows.rates(20.0)[0].records_per_s == pytest.approx(2.0)


@given(steps=st.lists(st.tuples(st.floats(0.1, 500), st.integers(0, 1000), st.integers(0, 1000)), max_size=60))
def test_rates_lie_between_nothing_and_the_fastest_step(steps: list[tuple[float, int, int]]) -> None:
    windows = RateWindows()
    now_s, records, arrived, fastest = 0.0, 0, 0, 0.0
    windows.add(now_s, Totals())
    for elapsed_s, done, landed in steps:
        now_s, records, arrived = now_s + elapsed_s, records + done, arrived + landed
        fastest = max(fastest, done / elapsed_s)
        windows.add(now_s, Totals(records=records, arrived=arrived))
        for rate in windows.rates(now_s):
            assert -1e-9 <= rate.records_per_s <= fastest * (1 + 1e-9) + 1e-9
            assert 0 <= rate.covered_s <= rate.window_s


# Rates that a clock can tell: a gain of 5e-324 a second would take longer than any float says.
RATES = st.floats(0, 1e6).map(lambda rate: round(rate, 6))


@given(records=st.integers(0, 10**9), done=RATES, arrived=RATES)
def test_time_to_catch_up_is_what_the_gain_takes(records: int, done: float, arrived: float) -> None:
    time_s = time_to_catch_up_s(records, rates(done, arrived))
    if records == 0:
        assert time_s == 0.0
    elif done <= arrived:
        assert time_s is None
    else:
        assert time_s is not None
        assert time_s * (done - arrived) == pytest.approx(records)


def test_bound_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="stalled_after_s must be above 0"):
        LagPolicy(stalled_after_s=0)
