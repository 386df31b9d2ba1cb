"""What a service holds after many videos: memory, descriptors, threads and metric series, with people at its page.

Usage: ``python -m benchmarks.soak [--videos N] [--rate N] [--readers N] [--folder DIR] [--json]``. A real `sluice run`
with its API, tables on disk and maintenance every minute works on videos that land as fast as it takes them, at most
``--rate`` a second; its workers judge by the row id (see ``benchmarks/cheap_service.py``): what real videos cost is the
pool's (``python -m benchmarks.pool``). Meanwhile three watchers follow the events and one more never reads what it is
sent, and readers load pages, search, look up stories and fetch pictures and clips; a scraper takes the metrics.

Prints a line per fiftieth of the videos, then one each for ``rss`` (bytes), ``descriptors``, ``threads`` and
``series``: ``value`` is the median over the last tenth of the videos, ``baseline`` that over the tenth after the first
fifth, which is the warm-up, ``peak`` the highest of all, ``ratio`` that of value to baseline. A last line tells how
long it took, what the service used of the CPUs, what the page answered, and whether the audit finds every video
accounted for. Exit code 1 where it does not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.page_clients import PageClients
from consumers.paimon.landing.objects import ObjectInfo
from service import wiring
from service.settings import Settings, load_settings

_CONSUMER = "soak"
_NUM_SAMPLES = 50
_WARM_UP, _WINDOW = 0.2, 0.1
_ROWS_PER_LANDING = 50
# Fewer are over before there is anything to compare.
_FEWEST = 2000
# So many videos wait at most, so that the service tails the table instead of working off a backlog.
_MOST_WAITING = 500
_POSITION = re.compile(r"^sluice_position_offset\{.*\} (\S+)$", re.MULTILINE)
_SETTINGS = """\
[catalog]
warehouse = "{warehouse}"
[consumer]
id = "{consumer}"
commit_interval_s = 0.5
poll_interval_s = 0.2
[pool]
kind = "inline"
replicas = 4
[maintenance]
interval_s = 60
[api]
port = 0
metrics_port = 0
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the service holds at one moment. ``series`` are time series on its metrics' page."""

    videos: int
    rss: int
    descriptors: int
    threads: int
    series: int


class SoakedService:
    """A running service and what is seen of it from outside.

    Attributes:
        url: of the control plane.
        pid: its process id.
        num_done: videos below its position, when last looked.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, metrics_url: str) -> None:
        self.url = url
        self.pid = process.pid
        self.num_done = 0
        self._metrics_url = metrics_url
        self._process = psutil.Process(process.pid)

    def look(self) -> Sample:
        """Return what it holds now.

        Raises:
            httpx.HTTPError: it does not answer.
        """
        page = httpx.get(self._metrics_url, timeout=60).text
        found = _POSITION.search(page)
        self.num_done = 0 if found is None else int(float(found[1]))
        series = sum(1 for line in page.splitlines() if line and not line.startswith("#"))
        with self._process.oneshot():
            rss, threads = self._process.memory_info().rss, self._process.num_threads()
        return Sample(self.num_done, rss, self._process.num_fds(), threads, series)

    def cpu_s(self) -> float:
        """Return what it has used of the CPUs so far, in seconds."""
        used = self._process.cpu_times()
        return float(used.user + used.system)


class Landing(threading.Thread):
    """Lets videos land, as long as the service keeps up.

    Args:
        settings: of the service.
        service: whose position counts.
        num_videos: how many, in all.
        rate: most per second.
    """

    def __init__(self, settings: Settings, service: SoakedService, num_videos: int, rate: float) -> None:
        super().__init__(name="landing", daemon=True)
        self._registrar = wiring.registrar(settings)
        self._service = service
        self._num_videos = num_videos
        self._interval_s = _ROWS_PER_LANDING / rate
        self.error: Exception | None = None

    def run(self) -> None:
        """Land them all."""
        try:
            landed = 0
            while landed < self._num_videos:
                time.sleep(self._interval_s)
                if landed - self._service.num_done < _MOST_WAITING:
                    count = min(_ROWS_PER_LANDING, self._num_videos - landed)
                    self._registrar.add(_object(number) for number in range(landed, landed + count))
                    landed += count
        except Exception as error:
            self.error = error
        finally:
            self._registrar.close()


def _object(number: int) -> ObjectInfo:
    return ObjectInfo(f"file:///videos/{number // 1000:04}/video {number}.mp4", 1_000_000, "1", datetime.now(UTC))


@contextmanager
def service(folder: Path, settings_file: Path, token: str) -> Iterator[SoakedService]:
    """Run the service inside the block; killed at its end."""
    environment = {**os.environ, "SLUICE_API__TOKENS__READ": token}
    command = [sys.executable, "-m", "benchmarks.cheap_service", "run", "--config", str(settings_file)]
    with (folder / "service.log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"control plane (\S+), metrics (\S+)", line):
                threading.Thread(target=process.stdout.read, daemon=True).start()
                yield SoakedService(process, found[1], found[2])
                process.send_signal(signal.SIGTERM)
                if process.wait(120) != 0:
                    raise RuntimeError(f"the service ended with exit code {process.returncode}")
                return
        raise RuntimeError(f"the service did not start: {(folder / 'service.log').read_text()[-2000:]}")
    finally:
        process.kill()
        process.wait()


def soak(folder: Path, num_videos: int, rate: float, num_readers: int) -> Iterator[dict[str, Any]]:
    """Yield the lines of the benchmark."""
    settings_file, token = folder / "sluice.toml", secrets.token_urlsafe(32)
    settings_file.write_text(_SETTINGS.format(warehouse=folder / "warehouse", consumer=_CONSUMER))
    settings = load_settings(settings_file)
    wiring.create_tables(settings, create_warehouse=True)
    started_s = time.monotonic()
    with service(folder, settings_file, token) as running:
        landing = Landing(settings, running, num_videos, rate)
        clients = PageClients(running.url, token, _CONSUMER, lambda: running.num_done, num_readers=num_readers)
        landing.start()
        clients.start()
        samples: list[Sample] = []
        while running.num_done < num_videos:
            time.sleep(1.0)
            if landing.error is not None:
                raise landing.error
            sample = running.look()
            if sample.videos >= (len(samples) + 1) * num_videos / _NUM_SAMPLES:
                samples.append(sample)
                yield {"case": "sample", "s": round(time.monotonic() - started_s), **asdict(sample)}
        wall_s, cpu_s = time.monotonic() - started_s, running.cpu_s()
        clients.close()
    yield from (compared(name, samples, num_videos) for name in ("rss", "descriptors", "threads", "series"))
    report = wiring.audit(settings)
    yield {
        "case": "run",
        "videos": num_videos,
        "wall_s": round(wall_s),
        "cpu_s": round(cpu_s),
        "answers": {str(status): count for status, count in sorted(clients.answers.items())},
        "events": clients.num_events,
        "audit_is_clean": report.is_clean,
    }


def compared(name: str, samples: Sequence[Sample], num_videos: int) -> dict[str, Any]:
    """Return one figure at the end beside that after the warm-up."""

    def median(after: float) -> float:
        first, last = after * num_videos, (after + _WINDOW) * num_videos
        return float(statistics.median(getattr(each, name) for each in samples if first < each.videos <= last))

    baseline, value = median(_WARM_UP), median(1 - _WINDOW)
    peak = max(getattr(each, name) for each in samples)
    return {"case": name, "value": value, "baseline": baseline, "peak": peak, "ratio": round(value / baseline, 3)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 1 where the audit finds something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=100.0, help="most videos that land in a second")
    parser.add_argument("--readers", type=int, default=3, help="threads that load pages")
    parser.add_argument("--folder", type=Path, help="keep tables and log here; an empty folder")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.videos < _FEWEST:
        parser.error(f"--videos must be at least {_FEWEST}")
    line: dict[str, Any] = {}
    with ExitStack() as closing:
        folder = options.folder or Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="sluice-soak-")))
        folder.mkdir(exist_ok=True)
        for line in soak(folder, options.videos, options.rate, options.readers):
            text = json.dumps(line) if options.json else ", ".join(f"{key} {value}" for key, value in line.items())
            print(text, flush=True)
    return int(not line["audit_is_clean"])


if __name__ == "__main__":
    sys.exit(main())
