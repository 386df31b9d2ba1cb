"""Run schedules again: ``python -m tests.simulation SEED [--trace]``, or ``FIRST-LAST``."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.simulation.known import KNOWN, OPEN
from tests.simulation.scene import simulated
from tests.simulation.schedule import run_on_disk, run_schedule


def main() -> int:
    """Run, print, and return 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", help="a seed, or FIRST-LAST")
    parser.add_argument("--trace", action="store_true", help="print every step")
    parser.add_argument(
        "--known", choices=KNOWN, help="with the plan of a fault that was found, in place of a drawn one"
    )
    parser.add_argument("--disk", action="store_true", help="over pypaimon's tables on disk, with our maintenance")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    num_bad, began_s = 0, time.monotonic()
    with simulated():
        for seed in range(int(first), int(last or first) + 1):
            if options.disk:
                with tempfile.TemporaryDirectory() as folder:
                    verdict = run_on_disk(seed, Path(folder) / "warehouse", is_traced=options.trace)
            else:
                verdict = run_schedule(seed, options.known, is_traced=options.trace)
            for line in verdict.trace:
                print(line)
            if verdict.found:
                num_bad += last == "" or options.known is not None or seed not in OPEN
                print(verdict)
            elif not last:
                print(verdict.plan)
                print(f"{verdict.num_steps} steps, {verdict.num_snapshots} snapshots, digest {verdict.digest:08x}")
    print(f"{num_bad} do not hold; {time.monotonic() - began_s:.1f} s")
    return int(num_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
