"""What an audit costs, by the number of commits that it looks at.

Usage: ``python -m benchmarks.audit [--commits N] [--json]``. Fills a warehouse on disk with commits of two videos with
a clip each, every one in files of its own, and audits it in a process of its own. Prints seconds and the memory that
the audit added, as a JSON object with ``--json``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.reading.audit import audit
from tests.support.warehouse import NAMES, PROFILE, append_raw, batch, make_warehouse

_VIDEOS_PER_COMMIT = 2


def fill(config: CatalogConfig, num_commits: int) -> None:
    """Make the commits; each is of videos that landed together."""
    sink = PaimonSink(config, NAMES, "main", PROFILE)
    position = sink.open().position
    for number in range(num_commits):
        row_ids = range(number * _VIDEOS_PER_COMMIT, (number + 1) * _VIDEOS_PER_COMMIT)
        append_raw(config, [f"v{row_id}" for row_id in row_ids])
        made = batch(position, row_ids)
        sink.commit(made)
        position = made.position
    sink.close()


def measure(config: CatalogConfig) -> dict[str, Any]:
    """Audit, and return what it found and cost."""
    before_bytes, started_s, cpu_s = _peak_bytes(), time.monotonic(), time.process_time()
    report = audit(config, NAMES, "main")
    return {
        "is_clean": report.is_clean,
        "rows": report.rows,
        "clips": report.clips,
        "wall_s": round(time.monotonic() - started_s, 2),
        "cpu_s": round(time.process_time() - cpu_s, 2),
        "added_mib": round((_peak_bytes() - before_bytes) / 1024**2, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.audit", description="What an audit costs.")
    parser.add_argument("--commits", type=int, default=500, help="commits of two videos each")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sluice-audit-") as folder:
        config = make_warehouse(Path(folder) / "warehouse")
        fill(config, options.commits)
        with get_context("spawn").Pool(1) as pool:
            found = {"commits": options.commits, **pool.apply(measure, (config,))}
    print(json.dumps(found) if options.json else "  ".join(f"{key} {value}" for key, value in found.items()))
    return 0 if found["is_clean"] else 1


def _peak_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
