"""The control plane under load, what that takes from the processing, and the lag's cost by number of snapshots.

Usage: ``python -m benchmarks.api [--seconds N] [--rounds N] [--snapshots N ...] [--json]``. Needs ``wrk`` for the load
(Debian: ``apt install wrk``); without it those cases are left out, and a line says so. Prints a line per case, JSON
with ``--json``.

The lag's cost is CPU time of one probe (head, newest commit, oldest uncommitted row), the median of many while the
position moves on; each table's snapshots are files as pypaimon writes them, made from a real one. Its ``ratio`` is to
the smallest table; that of the loads is the processing that goes on under load to what goes on without.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from consumers.clock import SystemClock
from consumers.media.samples import write_samples
from consumers.paimon.catalog import CatalogConfig, open_catalog
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.landing.objects import ObjectInfo
from consumers.paimon.landing.raw_writer import register
from consumers.paimon.reading.progress import PaimonProgress
from consumers.paimon.tables import TableNames, create_tables
from consumers.ports import CommitBatch
from schemas.positions import Position
from schemas.profile import Profile
from service.observe.activity import CommittedTotals
from service.observe.prober import Prober

NAMES = TableNames()
SLUICE = str(Path(sys.executable).with_name("sluice"))
_NUM_PROBES = 60
_Result = TypeVar("_Result")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def lag_cost_ms(num_snapshots: int) -> tuple[float, float]:
    """Return CPU milliseconds of the first probe of a process, and of one in the steady state."""
    with tempfile.TemporaryDirectory() as folder:
        config = CatalogConfig({"warehouse": folder})
        create_tables(open_catalog(config), config, NAMES)
        now = datetime.now(UTC)
        register(config, NAMES.raw, [ObjectInfo("file:///v.mp4", 1000, "1", now)])
        _multiply(Path(folder) / "sluice.db" / NAMES.raw / "snapshot", num_snapshots)
        sink = PaimonSink(config, NAMES, "bench", Profile())
        sink.open()
        prober = Prober(
            lambda: PaimonProgress(config, NAMES, "bench"),
            SystemClock(),
            # Sizes are known from commits, so that no rows are sampled: this is about metadata.
            lambda: CommittedTotals(1, 1, 1.0, 1000),
        )
        costs_ms = []
        for number in range(_NUM_PROBES + 1):
            sink.commit(CommitBatch((), Position(num_snapshots // 4 + number)))
            started_s = time.process_time()
            probe = prober.probe_once()
            costs_ms.append((time.process_time() - started_s) * 1000)
            assert probe.lag.records == num_snapshots - num_snapshots // 4 - number
            assert probe.lag.snapshots == probe.lag.records
        sink.close()
        return costs_ms[0], statistics.median(costs_ms[1:])


def _multiply(folder: Path, num_snapshots: int) -> None:
    """Write snapshots 2 to ``num_snapshots`` after the first, each with one more row."""
    first = json.loads((folder / "snapshot-1").read_text())
    for snapshot_id in range(2, num_snapshots + 1):
        later = {**first, "id": snapshot_id, "nextRowId": snapshot_id, "timeMillis": first["timeMillis"] + snapshot_id}
        (folder / f"snapshot-{snapshot_id}").write_text(json.dumps(later))
    (folder / "LATEST").write_text(str(num_snapshots))


@contextmanager
def service(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Run `sluice run` over a backlog of videos; yield its URL, a token and its process id."""
    token = secrets.token_urlsafe(32)
    environment = {**os.environ, "SLUICE_API__TOKENS__READ": token}
    media = folder / "media"
    samples = write_samples(media, count=3)
    for number in range(200):
        shutil.copyfile(samples[number % len(samples)], media / f"copy{number:03}.mp4")

    def sluice(*arguments: str) -> None:
        subprocess.run([SLUICE, *arguments], cwd=folder, check=True, capture_output=True, env=environment)

    sluice("init", "--warehouse", str(folder / "warehouse"), "--allow", str(media))
    with (folder / "sluice.toml").open("a") as file:
        file.write("\n[api]\nport = 0\nmetrics_port = 0\n")
    sluice("ingest", str(media))
    process = subprocess.Popen(
        [SLUICE, "run", "--pool", "inline"], cwd=folder, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"control plane (\S+),", line):
                yield found[1], token, process.pid
                return
        raise RuntimeError("the service did not start")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def load(url: str, token: str, path: str, seconds: int) -> dict[str, float]:
    """Return requests per second, and the median and 99th percentile of latency in milliseconds, under wrk."""
    done = subprocess.run(
        ["wrk", "-t1", "-c8", f"-d{seconds}s", "--latency", "-H", f"Authorization: Bearer {token}", f"{url}{path}"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    if "Non-2xx" in done:
        raise RuntimeError(done)
    latency = {name: _ms(value) for name, value in re.findall(r"^\s+(50|99)%\s+(\S+)$", done, re.MULTILINE)}
    rate = re.search(r"Requests/sec:\s+(\S+)", done)
    assert rate is not None
    return {"requests_per_s": float(rate[1]), "p50_ms": latency["50"], "p99_ms": latency["99"]}


def _ms(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    assert match is not None
    return float(match[1]) * _UNITS[match[2]]


def num_finished(url: str, token: str) -> int:
    """Return how many frames scene segmentation has seen, of finished videos."""
    headers = {"Authorization": f"Bearer {token}"}
    stages = httpx.get(f"{url}/api/v1/consumers/default/stages", headers=headers, timeout=30).json()["stages"]
    return next(int(stage["num_in"]) for stage in stages if stage["stage"] == "scene_segmentation")


def measure_load(seconds: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a case per path: rates under load while a backlog is processed, and how fast that goes on meanwhile.

    Quiet and loaded stretches take turns, so that what else the machine does falls on both; medians over the rounds.
    """
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as (url, token, _):
        time.sleep(3)

        def frames_per_s(work: Callable[[], _Result]) -> tuple[float, _Result]:
            before, started_s = num_finished(url, token), time.monotonic()
            result = work()
            rate = (num_finished(url, token) - before) / (time.monotonic() - started_s)
            if rate == 0:
                raise RuntimeError("nothing was processed: the backlog is over, or the stretches are too short")
            return rate, result

        for path in ("/api/v1/consumers", "/api/v1/consumers/default/lag"):
            quiet, busy, figures = [], [], []
            for _ in range(rounds):
                quiet.append(frames_per_s(lambda: time.sleep(seconds))[0])
                rate, under_load = frames_per_s(lambda path=path: load(url, token, path, seconds))  # type: ignore[misc]
                busy.append(rate)
                figures.append(under_load)
            quiet_rate, busy_rate = statistics.median(quiet), statistics.median(busy)
            yield {
                "case": f"load{path}",
                **{key: round(statistics.median(each[key] for each in figures), 3) for key in figures[0]},
                "frames_per_s_quiet": round(quiet_rate, 3),
                "frames_per_s_under_load": round(busy_rate, 3),
                "ratio": round(busy_rate / quiet_rate, 3),
            }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=8, help="length of each load, and of each quiet stretch")
    parser.add_argument("--rounds", type=int, default=3, help="loads of each path, in turn with quiet")
    parser.add_argument("--snapshots", type=int, nargs="+", default=[100, 10_000, 100_000])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    def tell(case: dict[str, Any]) -> None:
        print(
            json.dumps(case) if options.json else ", ".join(f"{key} {value}" for key, value in case.items()), flush=True
        )

    base_ms: float | None = None
    for num_snapshots in options.snapshots:
        first_ms, steady_ms = lag_cost_ms(num_snapshots)
        base_ms = base_ms or steady_ms
        tell(
            {
                "case": f"lag_cost/{num_snapshots}_snapshots",
                "first_probe_cpu_ms": round(first_ms, 2),
                "probe_cpu_ms": round(steady_ms, 3),
                "ratio": round(steady_ms / base_ms, 3),
            }
        )
    if shutil.which("wrk") is None:
        print("load: left out, because wrk is not installed", file=sys.stderr)
        return 0
    for case in measure_load(options.seconds, options.rounds):
        tell(case)
    return 0


if __name__ == "__main__":
    sys.exit(main())
