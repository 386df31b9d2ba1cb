"""Videos that take the whole service with them, in real processes: given up, their neighbours curated, no loop."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from consumers.paimon.reading.audit import audit
from tests.support.consuming import standing
from tests.support.container import limited_container
from tests.support.deadly import MAX_DEATHS
from tests.support.stores import warehouse_of
from tests.support.warehouse import NAMES, append_raw, rows_of

ROOT = Path(__file__).parents[4]
# Workers of Ray import what they run by its name.
_LIVE = "from tests.support.deadly import main; main()"


def live(config, shard="0/1", pool="inline", container=None):
    """Start the consumer, and return how it ended."""
    command = [sys.executable, "-c", _LIVE, json.dumps(config.options), shard, pool]
    if container is not None:
        command = container.command(command)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL, check=False, timeout=200
    ).returncode


def live_on(config, **how):
    """Start it until it ends as it should; return how the others ended."""
    ends = []
    while (end := live(config, **how)) != 0:
        ends.append(end)
        assert len(ends) < 20
    return ends


def failures(config):
    rows = rows_of(config, NAMES.ledger, ["source_row_id", "failure_class", "failure_message"])
    return {row["source_row_id"]: row for row in rows if row["failure_class"] is not None}


def test_processes_that_die_of_their_videos_end_with_all_neighbours_curated(tmp_path, request):
    config = warehouse_of(request, tmp_path)
    names = ["good-0", "good-1", "kill-2", "good-3", "good-4", "good-5", "segfault-6", "good-7"]
    append_raw(config, names)
    ends = live_on(config)
    # Two before it takes care, then as often as a video may, for each.
    assert Counter(ends) == {-9: MAX_DEATHS + 2, -11: MAX_DEATHS}
    assert set(failures(config)) == {2, 6}
    for failure in failures(config).values():
        assert failure["failure_class"] == "poison_video"
        assert f"the service itself ended {MAX_DEATHS} times" in failure["failure_message"]
    assert standing(config) == {name: 2 for name in names if name.startswith("good")}
    report = audit(config, NAMES, "main")
    assert report.is_clean, report
    # What is over is forgotten.
    append_raw(config, ["good-8"])
    assert live(config) == 0
    assert standing(config)["good-8"] == 2


@pytest.mark.parametrize("store", ["s3"])
def test_on_a_store_of_objects_each_shard_counts_for_itself(store, tmp_path, request):
    request.param = store
    config = warehouse_of(request, tmp_path)
    append_raw(config, ["good-0", "good-1", "good-2", "kill-3", "good-4", "good-5"])
    assert live_on(config, shard="0/2") == []
    assert live_on(config, shard="1/2") == [-9] * (MAX_DEATHS + 2)
    assert set(failures(config)) == {3}
    assert sum(standing(config).values()) == 10


@pytest.mark.parametrize("pool", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
def test_videos_that_take_all_memory_of_a_container_do_not_stop_the_others(pool, tmp_path, request):
    config = warehouse_of(request, tmp_path)
    names = ["good-0", "hog-1", "good-2", "share-3", "good-4", "good-5"]
    append_raw(config, names)
    with limited_container((1 if pool == "inline" else 3) << 30) as container:
        ends = live_on(config, pool=pool, container=container)
        if pool == "inline":
            # Nothing but the process itself is there to die.
            assert ends == [-9] * len(ends)
        else:
            assert ends == []
    assert set(failures(config)) == {1, 3}
    assert failures(config)[3]["failure_class"] == "poison_video"
    assert standing(config) == {name: 2 for name in names if name.startswith("good")}
    assert audit(config, NAMES, "main").is_clean
