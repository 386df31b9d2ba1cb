from hypothesis import given
from hypothesis import strategies as st

from service.host.restarts import RestartState, restart_delay_s


@given(st.integers(1, 10_000))
def test_delay_grows_with_every_failure_and_never_exceeds_ten_minutes(num_failures: int) -> None:
    delay_s = restart_delay_s(num_failures)
    assert delay_s == min(600.0, num_failures**2 + num_failures)
    assert restart_delay_s(num_failures + 1) >= delay_s


def test_stable_run_makes_the_next_failure_the_first() -> None:
    state = RestartState(stable_after_s=100.0)
    assert [state.failed(1.0), state.failed(1.0), state.failed(1.0)] == [2.0, 6.0, 12.0]
    assert state.failed(100.0) == 2.0
    assert state.num_restarts == 4


def test_forgiven_failures_do_not_count() -> None:
    state = RestartState()
    state.failed(1.0)
    state.failed(1.0)
    state.forgive()
    assert state.failed(1.0) == 2.0
