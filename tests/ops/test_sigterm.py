"""What a pod's termination does to a run under load."""

import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from consumers.media.samples import Shot, write_video
from tests.ops.support import K8S, eventually, load_yaml, needs
from tests.ops.test_monitored_run import SLUICE, MonitoredRun

pytestmark = [needs("yaml"), pytest.mark.timeout(200)]

NUM_VIDEOS = 24


def counter(run: MonitoredRun, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{run.metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name}{{"))


def sluice_json(run: MonitoredRun, *arguments: str) -> dict:
    done = subprocess.run([SLUICE, *arguments, "--json"], cwd=run.root, capture_output=True, text=True, check=False)
    return json.loads(done.stdout)


def test_sigterm_under_load_drains_within_the_grace_period_and_the_next_run_resumes(tmp_path: Path) -> None:
    run = MonitoredRun(tmp_path)
    for index in range(NUM_VIDEOS):
        write_video(run.media / f"{index}.mp4", [Shot(3, seed=index)], width=320, height=240, fps=24)
    subprocess.run([SLUICE, "ingest", str(run.media)], cwd=run.root, check=True, capture_output=True)
    run.start()
    assert eventually(lambda: counter(run, "sluice_videos_finished_total") >= 1)
    started_s = time.monotonic()
    assert run.stop() == 0
    grace_s = load_yaml(K8S / "base" / "stateful-set.yaml")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert time.monotonic() - started_s < grace_s
    before = sluice_json(run, "audit")
    assert before["ledger_rows"] >= 1
    assert (before["missing"], before["duplicated"], before["unaccounted"]) == (0, 0, 0)
    report = sluice_json(run, "run", "--pool", "inline", "--until-caught-up")
    assert report["num_admitted"] == NUM_VIDEOS - before["ledger_rows"], "what the drain committed is not done again"
    after = sluice_json(run, "audit")
    assert (after["rows"], after["ledger_rows"], after["pending"]) == (NUM_VIDEOS, NUM_VIDEOS, 0)
    assert (after["missing"], after["duplicated"], after["unaccounted"]) == (0, 0, 0)
