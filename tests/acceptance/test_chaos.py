"""Small rounds of the chaos benchmark: every step of the commit protocol, random instants, two copies, sleepers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]
SEED = os.environ.get("TEST_SLUICE_SEED", "20261124")
_WRONG = ("missing", "duplicated", "stray", "clips_missing", "clips_duplicated", "clips_stray", "gaps", "crashed")
_EXACTLY_ONCE = dict.fromkeys(_WRONG, 0)
# The raw table is changed in all these ways meanwhile, unless a test says otherwise.
_EVENTS_OF_TRACKED = {"delete", "compaction", "overwrite", "rollback", "recreate"}
_EVENTS_OF_KEYED = {"overwrite", "rollback", "recreate"}


def _chaos(folder: Path, *arguments: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--json", "--seed", SEED, *arguments],
        cwd=_ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    *rounds, totals = [json.loads(line) for line in done.stdout.splitlines()] or [{}]
    assert done.returncode == 0, f"seed {SEED}: {totals} {done.stderr}"
    return rounds, totals


def test_service_killed_at_every_step_and_at_random_doubled_and_put_to_sleep_loses_and_repeats_nothing(
    tmp_path: Path,
) -> None:
    rounds, totals = _chaos(tmp_path, "--kills", "24")
    assert {name: totals[name] for name in _EXACTLY_ONCE} == _EXACTLY_ONCE
    assert totals["kills"] >= 24
    assert sum(each["kind"] == "instant" for each in rounds) >= 2
    assert totals["at_step"] >= 9
    assert totals["fenced"] >= 1
    assert {each["step"] for each in rounds} >= _EVENTS_OF_TRACKED
    assert totals["rows"] > 0
    assert list(tmp_path.iterdir()) == []


def test_shards_divided_anew_under_fire_and_stripped_of_their_markers_lose_and_repeat_nothing(tmp_path: Path) -> None:
    rounds, totals = _chaos(tmp_path, "--kills", "16", "--rescale", "--expire")
    assert {name: totals[name] for name in _EXACTLY_ONCE} == _EXACTLY_ONCE
    assert {each["shards"] for each in rounds} >= {1, 3}
    assert len(rounds) >= 5, "the first expiry comes after five rounds"


def test_videos_replaced_and_deleted_while_answers_are_lost_and_publishers_sleep_leave_what_stands_and_no_more(
    tmp_path: Path,
) -> None:
    rounds, totals = _chaos(tmp_path, "--keyed", "--outages", "--kills", "16")
    assert {name: totals[name] for name in _EXACTLY_ONCE} == _EXACTLY_ONCE
    assert {each["kind"] for each in rounds} >= {"step", "paused", "zombie"}
    assert {each["step"] for each in rounds} >= _EVENTS_OF_KEYED
    assert 0 < totals["rows"] < 6 * len(rounds), "videos that replaced others, or were deleted"


def test_raw_table_compacted_under_a_consumer_whose_answers_are_lost_loses_and_repeats_nothing(tmp_path: Path) -> None:
    rounds, totals = _chaos(tmp_path, "--outages", "--events", "compaction", "--kills", "16")
    assert {name: totals[name] for name in _EXACTLY_ONCE} == _EXACTLY_ONCE
    assert "compaction" in {each["step"] for each in rounds}
    num_landings = sum({"event": 2, "calm": 13}.get(each["kind"], 1) for each in rounds)
    assert totals["rows"] == 6 * num_landings


@pytest.mark.ray
@pytest.mark.timeout(600)
def test_service_on_ray_whose_workers_are_killed_before_it_is_loses_and_repeats_nothing(tmp_path: Path) -> None:
    rounds, totals = _chaos(tmp_path, "--pool", "ray", "--kills", "3")
    assert {name: totals[name] for name in _EXACTLY_ONCE} == _EXACTLY_ONCE
    assert rounds[0]["kind"] == "worker"
    assert totals["kills"] >= 3
