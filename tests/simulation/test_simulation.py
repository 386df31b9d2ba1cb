"""10,000 schedules, drawn from their seeds, and those of every fault that was found: the promise holds in each.

Two processes share them; a seed that fails is printed with the command that runs it again, step by step the same.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.known import KNOWN, OPEN
from tests.simulation.plan import drawn_plan
from tests.simulation.scene import simulated
from tests.simulation.schedule import run_schedule
from tests.simulation.scheduler import Fault

_ROOT = Path(__file__).resolve().parents[2]
_NUM_SCHEDULES = 10_000
_NUM_PROCESSES = 2
_NUM_OF_EACH_KNOWN = 25


@pytest.fixture(scope="module")
def _simulated() -> Iterator[None]:
    with simulated():
        yield


def _start(*arguments: str, hash_seed: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=_ROOT,
        env={"PYTHONHASHSEED": str(hash_seed), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.timeout(900)
def test_ten_thousand_schedules_hold() -> None:
    share = _NUM_SCHEDULES // _NUM_PROCESSES
    running = [_start(f"{number * share}-{(number + 1) * share - 1}") for number in range(_NUM_PROCESSES)]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0] * _NUM_PROCESSES, "\n".join(outputs)


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.usefixtures("_simulated")
def test_faults_that_were_found_are_found_no_more(name: str) -> None:
    verdicts = [run_schedule(seed, name) for seed in range(_NUM_OF_EACH_KNOWN)]
    assert not [str(verdict) for verdict in verdicts if verdict.found]


@pytest.mark.parametrize("seed", OPEN)
@pytest.mark.xfail(reason="known and not mended")
@pytest.mark.usefixtures("_simulated")
def test_faults_that_are_open_are_so_still(seed: int) -> None:
    assert not run_schedule(seed).found


def test_seed_is_the_same_schedule_in_another_process() -> None:
    outputs = [_start("77", "--trace", hash_seed=hash_seed).communicate()[0] for hash_seed in (1, 2)]
    first, second = (output.splitlines()[:-1] for output in outputs)
    assert len(first) > 50
    assert first == second


@pytest.mark.usefixtures("_simulated")
def test_schedules_reach_every_kind_of_fault_and_leave_work_done() -> None:
    verdicts = [run_schedule(seed) for seed in range(300)]
    hits = sum((verdict.hits for verdict in verdicts), Counter())
    assert set(hits) == set(Fault)
    assert min(verdict.num_snapshots for verdict in verdicts) >= 4
    assert len({verdict.digest for verdict in verdicts}) == len(verdicts)
    plans = [drawn_plan(seed) for seed in range(300)]
    for name in ("num_copies", "rescales", "num_takedowns", "num_replays", "num_skips", "num_expiries", "set_backs"):
        assert sum(bool(getattr(plan, name)) for plan in plans) > 10, name
