"""Schedules over pypaimon's real tables, while our maintenance compacts, expires, purges and sweeps: few, and slow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.scene import simulated
from tests.simulation.schedule import run_on_disk

_NUM_SCHEDULES = 40


@pytest.fixture(scope="module")
def _simulated() -> Iterator[None]:
    with simulated():
        yield


# Who dies in the middle of a read leaves its file to the system, as a process does.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.usefixtures("_simulated")
def test_maintenance_at_any_step_takes_nothing_that_is_needed(tmp_path: Path) -> None:
    for seed in range(_NUM_SCHEDULES):
        verdict = run_on_disk(seed, tmp_path / str(seed))
        assert not verdict.found, str(verdict)
