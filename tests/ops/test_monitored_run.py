"""A real `sluice run` under a real Prometheus: panels, a stall that is told and ends, a pause that is no failure."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.media.samples import Shot, write_video
from tests.ops.support import DASHBOARDS, dashboard, eventually, expressions, needs

pytestmark = [needs("prometheus", "yaml"), pytest.mark.timeout(280)]

SLUICE = Path(sys.executable).with_name("sluice")
TOKEN = "an-operator-of-the-test-suite"

# Without a GPU, a model pool, a retention that runs out, a running pause or a lag that is being worked off.
NOTHING_TO_SHOW = {
    "GPU busy, by stage",
    "Mean batch",
    "Retention headroom",
    "Pauses",
    "Caught up in",
    # A share of what was checked after the second scrape, which the few clips of this run may all have come before.
    "Clips that failed their first check, share",
}


# Shown beside the consumer's own line where there are several shards, which this run has not.
OF_SEVERAL_SHARDS = {"sluice_shard_lag_records"}


class MonitoredRun:
    """A consumer with an inline pool, its folder of videos, and what operators do to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.media = root / "media"
        self.media.mkdir()
        self._num_videos = 0
        self._sluice("init", "--warehouse", str(root / "warehouse"), "--allow", str(self.media))
        config = root / "sluice.toml"
        config.write_text(
            config.read_text().replace(
                'id = "default"',
                'id = "default"\npoll_interval_s = 0.2\ncommit_interval_s = 0.5\nstore_outage_s = 4\n\n'
                "[api]\nport = 0\nmetrics_port = 0\nprobe_interval_s = 0.5\ncurrent_within_s = 1\nstalled_after_s = 5",
            )
        )

    def _sluice(self, *arguments: str) -> None:
        done = subprocess.run([SLUICE, *arguments], cwd=self.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        with (self.root / "stderr.log").open("w") as log:
            self.process = subprocess.Popen(
                [SLUICE, "run", "--pool", "inline"],
                cwd=self.root,
                env={**os.environ, "SLUICE_API__TOKENS__ADMIN": TOKEN},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found = re.search(r"control plane (\S+), metrics http://[^:]+:(\d+)/", line)
            if found:
                self._url, self.metrics_port = found[1], int(found[2])
                return
        raise AssertionError((self.root / "stderr.log").read_text())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def land(self, content: bytes | None = None) -> None:
        self._num_videos += 1
        path = self.media / f"{self._num_videos}.mp4"
        if content is None:
            # Every other one stands still, and is rejected.
            shot = Shot(1, seed=1) if self._num_videos % 2 else Shot(1, "static", seed=3)
            write_video(path, [shot], width=96, height=64, fps=12)
        else:
            path.write_bytes(content)
        self._sluice("ingest", str(path))

    def wish(self, what: str) -> None:
        request = urllib.request.Request(
            f"{self._url}/api/v1/consumers/default/{what}",
            json.dumps({"reason": "a test"}).encode(),
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 202

    def take_ledger_away(self) -> None:
        ledger = self._ledger()
        ledger.rename(ledger.with_name("away"))
        ledger.write_text("a file where a folder should be")

    def bring_ledger_back(self) -> None:
        ledger = self._ledger()
        ledger.unlink()
        ledger.with_name("away").rename(ledger)

    def _ledger(self) -> Path:
        return self.root / "warehouse" / "sluice.db" / "curation_ledger"


def quickened(rules: str) -> str:
    """Return the rules with the alert on lag at seconds instead of minutes."""
    return re.sub(r"\[15m\]\)\) >= 0", "[6s])) >= 0", rules.replace("> 1800", "> 5")).replace("for: 10m", "for: 2s")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredRun]:
    service = MonitoredRun(tmp_path_factory.mktemp("run"))
    service.start()
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def server(run: MonitoredRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    from tests.ops.prometheus import prometheus

    with prometheus(tmp_path_factory.mktemp("prometheus"), run.metrics_port, adapt_rules=quickened) as running:
        yield running


def state(server) -> set[str]:
    return {sample["metric"]["state"] for sample in server.query("sluice_consumer_state == 1")}


def lag(server) -> float | None:
    samples = server.query("sluice_lag_records")
    return float(samples[0]["value"][1]) if samples else None


def test_every_panel_shows_data_of_a_real_run(run: MonitoredRun, server) -> None:
    run.land()
    assert eventually(lambda: lag(server) == 0)
    # Counters grow for Prometheus from the second scrape on.
    run.land()
    run.land(b"no video at all")
    run.land()
    pending = {
        (path.stem, where, expr)
        for path in DASHBOARDS
        for where, expr in expressions(dashboard(path))
        if where not in NOTHING_TO_SHOW and not any(series in expr for series in OF_SEVERAL_SHARDS)
    }

    def all_have_data() -> bool:
        for item in list(pending):
            if server.query(item[2]):
                pending.discard(item)
        return not pending

    assert eventually(all_have_data), f"no data: {sorted(pending)}"


def test_pause_is_told_from_a_failure(run: MonitoredRun, server) -> None:
    run.wish("pause")
    assert eventually(lambda: state(server) == {"paused"})
    assert server.query('sluice_consumer_state{state="failed"} == 1') == []
    assert server.query('sluice_consumer_desired_state{state="paused"} == 1')
    run.wish("resume")
    assert eventually(lambda: state(server) == {"running"})


def test_lag_alert_fires_in_a_stall_and_clears(run: MonitoredRun, server) -> None:
    run.take_ledger_away()
    try:
        run.land()
        assert eventually(lambda: "SluiceLagHigh" in server.alerts(), 90), (lag(server), state(server))
        assert server.query('max_over_time(sluice_consumer_state{state=~"failed|restarting"}[2m]) == 1')
        assert server.query('sluice_consumer_desired_state{state="running"} == 1'), "nobody asked for this"
    finally:
        run.bring_ledger_back()

    def has_caught_up() -> bool:
        # It may have met the file just when it looked at its tables, which is no passing fault: then a person resumes.
        if state(server) == {"failed"}:
            run.wish("resume")
        return lag(server) == 0

    assert eventually(has_caught_up, 90), (lag(server), state(server))
    assert eventually(lambda: "SluiceLagHigh" not in server.alerts())
