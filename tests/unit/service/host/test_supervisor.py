"""One consumer kept as desired, with a real Processor over fakes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from consumers.clock import SystemClock
from consumers.errors import ConfigurationError, FencedError, SightLostError, StoreUnavailableError
from consumers.lag import ObservedState
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.loop.reports import RunReport
from consumers.testing import FakePool, FakeSink, FakeSource, FakeTables, kept_outcome
from schemas.control import DesiredState
from service.host.supervisor import Incarnation, Supervisor


@dataclass
class Life:
    """What the incarnations of one supervisor work on, and how they are to end."""

    source: FakeSource = field(default_factory=lambda: FakeSource(4))
    tables: FakeTables = field(default_factory=FakeTables)
    errors: list[BaseException] = field(default_factory=list)
    num_built: int = 0
    num_closed: int = 0
    is_open: bool = False
    closing_errors: list[BaseException] = field(default_factory=list)

    def build(self) -> Incarnation:
        self.num_built += 1
        error = self.errors.pop(0) if self.errors else None
        pool = FakePool(script=None if self.is_open else lambda task: kept_outcome(task.video))
        processor = Processor(
            self.source,
            FakeSink(self.tables),
            pool,
            SystemClock(),
            config=ProcessorConfig(poll_interval_s=0.01, drain_timeout_s=0.2),
        )

        def start() -> None:
            if error is not None:
                raise error

        def close() -> None:
            pool.close()
            self.num_closed += 1
            if self.closing_errors:
                raise self.closing_errors.pop(0)

        return Incarnation(processor, start, close)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does; polls, as the supervisor has no event for every state."""
    tick = threading.Event()
    for _ in range(1000):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("the condition did not come true within ten seconds")


@pytest.fixture
def life() -> Life:
    return Life()


@pytest.fixture
def supervise(life: Life) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(**changes: object) -> Supervisor:
        supervisor = Supervisor("c1", life.build, SystemClock(), **changes)  # type: ignore[arg-type]
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield make
    for supervisor in made:
        supervisor.shutdown(0.1)
        assert supervisor.join(10)


def observed(supervisor: Supervisor) -> ObservedState:
    return supervisor.status().observed


Make = Callable[..., Supervisor]


def test_consumer_runs_and_commits(life: Life, supervise: Make) -> None:
    supervisor = supervise()
    wait_for(lambda: len(life.tables.clips) == 4)
    assert observed(supervisor) is ObservedState.RUNNING
    assert supervisor.status().intake_since_s is not None


def test_consumer_that_is_paused_from_the_start_takes_in_nothing(life: Life, supervise: Make) -> None:
    supervisor = supervise(desired=DesiredState.PAUSED)
    wait_for(lambda: observed(supervisor) is ObservedState.PAUSED)
    assert life.source.num_pulled == 0
    assert supervisor.status().intake_since_s is None
    supervisor.apply(DesiredState.RUNNING, 0)
    wait_for(lambda: len(life.tables.clips) == 4)
    assert life.num_built == 1


def test_pause_is_pausing_until_what_is_in_flight_is_committed(life: Life, supervise: Make) -> None:
    life.is_open = True
    supervisor = supervise()
    wait_for(lambda: supervisor.status().processor is not None and life.source.num_pulled >= 4)
    supervisor.apply(DesiredState.PAUSED, 0)
    wait_for(lambda: observed(supervisor) is ObservedState.PAUSING)


def test_stopped_consumer_gives_its_workers_back_and_can_run_again(life: Life, supervise: Make) -> None:
    supervisor = supervise()
    wait_for(lambda: len(life.tables.clips) == 4)
    supervisor.apply(DesiredState.STOPPED, 0)
    wait_for(lambda: observed(supervisor) is ObservedState.STOPPED)
    assert life.num_closed == 1
    supervisor.apply(DesiredState.RUNNING, 0)
    wait_for(lambda: observed(supervisor) is ObservedState.RUNNING)
    assert life.num_built == 2


def test_restart_makes_a_new_incarnation_once(life: Life, supervise: Make) -> None:
    supervisor = supervise()
    wait_for(lambda: observed(supervisor) is ObservedState.RUNNING)
    for _ in range(3):
        supervisor.apply(DesiredState.RUNNING, 1)
    wait_for(lambda: life.num_built == 2 and observed(supervisor) is ObservedState.RUNNING)
    assert supervisor.status().num_restarts == 0


def test_passing_failure_is_restarted_with_its_error_kept(life: Life, supervise: Make) -> None:
    life.errors = [StoreUnavailableError("the disk is away")]
    supervisor = supervise()
    wait_for(lambda: observed(supervisor) is ObservedState.RESTARTING)
    assert supervisor.status().restart_at is not None
    wait_for(lambda: observed(supervisor) is ObservedState.RUNNING)
    status = supervisor.status()
    assert status.num_restarts == 1
    assert status.last_error is not None
    assert status.last_error.message == "the disk is away"


def test_restart_by_a_person_does_not_wait_for_the_backoff(life: Life, supervise: Make) -> None:
    life.errors = [StoreUnavailableError("away")] * 3
    supervisor = supervise()
    for generation in (1, 2, 3):
        wait_for(lambda: observed(supervisor) is ObservedState.RESTARTING)
        # The delays that are not waited for would be 2, 6 and 12 seconds.
        supervisor.apply(DesiredState.RUNNING, generation)
    wait_for(lambda: observed(supervisor) is ObservedState.RUNNING)
    assert life.num_built == 4


def test_failure_that_a_person_has_to_mend_is_not_tried_again_until_asked(life: Life, supervise: Make) -> None:
    life.errors = [ConfigurationError("the table does not fit")]
    supervisor = supervise()
    wait_for(lambda: observed(supervisor) is ObservedState.FAILED)
    supervisor.apply(DesiredState.RUNNING, 0)
    assert life.num_built == 1
    supervisor.apply(DesiredState.RUNNING, 1)
    wait_for(lambda: observed(supervisor) is ObservedState.RUNNING)


def test_superseded_copy_stops_and_stays_down(life: Life, supervise: Make) -> None:
    life.errors = [FencedError()]
    supervisor = supervise()
    wait_for(lambda: supervisor.status().is_superseded)
    wait_for(lambda: observed(supervisor) is ObservedState.STOPPED)
    assert life.num_built == 1


def test_consumer_that_slept_past_the_expiry_of_snapshots_is_started_again(life: Life, supervise: Make) -> None:
    life.errors = [SightLostError()]
    supervisor = supervise()
    wait_for(lambda: observed(supervisor) is ObservedState.RUNNING)
    assert (supervisor.status().num_restarts, supervisor.status().is_superseded) == (1, False)


def test_unexpected_error_ends_a_run_and_not_the_service(
    life: Life, supervise: Make, caplog: pytest.LogCaptureFixture
) -> None:
    life.errors = [ZeroDivisionError("a bug")]
    supervisor = supervise()
    wait_for(lambda: observed(supervisor) is ObservedState.RUNNING)
    assert supervisor.status().last_error is not None
    assert "a bug" in caplog.text


@pytest.mark.parametrize("error", [StoreUnavailableError("the sink is away"), RuntimeError("a bug")])
@pytest.mark.filterwarnings("default")
def test_incarnation_that_cannot_give_everything_back_is_down_all_the_same_and_runs_again(
    life: Life, supervise: Make, error: Exception
) -> None:
    life.closing_errors = [error]
    supervisor = supervise()
    wait_for(lambda: supervisor.status().observed is ObservedState.RUNNING)
    supervisor.apply(DesiredState.STOPPED, 0)
    wait_for(lambda: supervisor.status().observed is ObservedState.STOPPED)
    last_error = supervisor.status().last_error
    assert last_error is not None
    assert last_error.message == str(error)
    assert supervisor.is_alive
    supervisor.apply(DesiredState.RUNNING, 0)
    wait_for(lambda: supervisor.status().observed is ObservedState.RUNNING)
    assert life.num_built == 2


def test_shutdown_drains_and_reports(life: Life, supervise: Make) -> None:
    supervisor = supervise()
    wait_for(lambda: len(life.tables.clips) == 4)
    supervisor.shutdown()
    assert supervisor.join(10)
    report = supervisor.last_report
    assert isinstance(report, RunReport)
    assert report.counts.num_curated == 4


def test_suspended_consumer_is_down_until_it_may_go_on(life: Life, supervise: Make) -> None:
    supervisor = supervise()
    wait_for(lambda: len(life.tables.clips) == 4)
    supervisor.suspend()
    assert supervisor.wait_until_down(10)
    assert observed(supervisor) is ObservedState.STOPPED
    supervisor.unsuspend()
    wait_for(lambda: observed(supervisor) is ObservedState.RUNNING)
