import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import WorkerDiedError
from consumers.loop.retry import Final, RetryLater, RetryPolicy, StorePatience, Tally, backoff_s
from consumers.testing import failed_outcome, kept_outcome, make_video, rejected_outcome
from schemas.records import FailureKind, Stage

DEATH = WorkerDiedError("worker 7 ended")
TRANSIENT = failed_outcome(FailureKind.TRANSIENT, "store said 503")
endings = st.lists(st.sampled_from([DEATH, RuntimeError("boom"), TRANSIENT]), min_size=60, max_size=60)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 8),
    max_worker_deaths=st.integers(1, 8),
    base_s=st.floats(0, 1),
    max_s=st.floats(1, 100),
    jitter=st.sampled_from([lambda: 0.0, lambda: 0.5, lambda: 0.999]),
)


@given(policies, endings)
def test_a_video_that_never_succeeds_is_given_up_after_a_bounded_number_of_calls(policy, story):
    tally = Tally()
    for num_calls, ending in enumerate(story, start=1):
        decision = policy.decide(tally, ending)
        if isinstance(decision, Final):
            break
        assert 0 <= decision.delay_s <= policy.max_s
        tally = decision.tally
        assert tally.num_calls == num_calls
    assert isinstance(decision, Final)
    assert decision.num_attempts == num_calls <= policy.max_attempts + policy.max_worker_deaths - 1
    assert decision.outcome.failure is not None
    deaths = sum(isinstance(e, BaseException) for e in story[:num_calls])
    is_poison = decision.outcome.failure.error_class == "poison_video"
    assert is_poison is (deaths == policy.max_worker_deaths)


@given(policies, st.integers(0, 5), st.integers(0, 5))
def test_a_verdict_is_final_whatever_came_before(policy, num_transient, num_deaths):
    video = make_video(0)
    for outcome in (kept_outcome(video), rejected_outcome(video), failed_outcome()):
        decision = policy.decide(Tally(num_transient, num_deaths), outcome)
        assert decision == Final(outcome, num_transient + num_deaths + 1)


def test_used_up_attempts_keep_the_failure_and_say_how_many():
    decision = RetryPolicy(max_attempts=2).decide(Tally(num_transient=1, num_deaths=1), TRANSIENT)
    assert isinstance(decision, Final)
    failure = decision.outcome.failure
    assert failure.kind is FailureKind.TRANSIENT
    assert failure.error_class == "object_unavailable"
    assert failure.message == "store said 503 (given up after 3 attempts)"


def test_a_third_death_makes_a_poison_video_with_counts_and_the_last_cause():
    decision = RetryPolicy().decide(Tally(num_transient=1, num_deaths=2), DEATH)
    assert isinstance(decision, Final)
    failure = decision.outcome.failure
    assert (failure.kind, failure.stage, failure.error_class) == (FailureKind.PERMANENT, Stage.POOL, "poison_video")
    assert "3 workers" in failure.message
    assert "4 attempts" in failure.message
    assert "worker 7 ended" in failure.message


def test_an_unexpected_exception_counts_as_a_death_and_is_named():
    decision = RetryPolicy(jitter=lambda: 0.0).decide(Tally(), KeyError("x"))
    assert decision == RetryLater(Tally(num_deaths=1), 0.5, "KeyError: 'x'")


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(1, 1000), st.floats(0, 0.999))
def test_delays_grow_to_their_bound_and_are_never_less_than_half(num_failures, base_s, max_s, random):
    delay_s = backoff_s(num_failures, base_s, max_s, lambda: random)
    full_s = min(max_s, base_s * 2 ** min(num_failures - 1, 40))
    assert full_s / 2 <= delay_s + 1e-9
    assert delay_s <= max_s


def test_a_short_outage_is_waited_out_and_forgotten():
    patience = StorePatience(1, 8, 20, jitter=lambda: 0.0)
    assert not patience.is_down
    assert patience.failed(100.0)
    assert patience.next_try_s == 100.5
    assert patience.failed(100.5)
    assert patience.next_try_s == 101.5
    patience.succeeded()
    assert not patience.is_down
    assert patience.failed(1000.0)
    assert patience.next_try_s == 1000.5


def test_a_long_outage_is_given_up():
    patience = StorePatience(1, 8, 20, jitter=lambda: 0.0)
    assert patience.failed(0.0)
    assert patience.failed(19.9)
    assert not patience.failed(20.0)


@pytest.mark.parametrize(
    "bad", [{"max_attempts": 0}, {"max_worker_deaths": 0}, {"base_s": -1}, {"base_s": 2.0, "max_s": 1.0}]
)
def test_a_senseless_policy_is_refused(bad):
    with pytest.raises(ValueError, match=r"must"):
        RetryPolicy(**bad)
