"""One process of a race: commits rows of a consumer, taking over again when it is fenced, up to four times.

Run as ``python -m tests.integration.consumers.paimon.commit.racing_consumer WAREHOUSE CONSUMER NUM_ROWS SEED``; prints
``ready``, waits for a line, and prints commits and fencings.
WAREHOUSE is a folder, or catalog options as JSON. With a STEP in place of a seed it kills itself with SIGKILL when the
first commit reaches that step.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

from consumers.errors import FencedError
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from tests.support.warehouse import NAMES, PROFILE, batch, make_warehouse


def race(config: CatalogConfig, consumer: str, num_rows: int, seed: int) -> tuple[int, int]:
    chance = random.Random(seed)
    num_commits = num_fenced = 0
    while num_fenced < 5:
        sink = PaimonSink(config, NAMES, consumer, PROFILE)
        try:
            position = sink.open().position
            while position.watermark < num_rows:
                rows = [row for gap in position.missing(num_rows) for row in range(gap.start, gap.end)]
                chosen = chance.sample(rows, min(len(rows), chance.randint(1, 4)))
                work = batch(position, chosen)
                sink.commit(work)
                num_commits += 1
                position = work.position
            return num_commits, num_fenced
        except FencedError:
            num_fenced += 1
        finally:
            sink.close()
    return num_commits, num_fenced


def die_at(config: CatalogConfig, consumer: str, num_rows: int, step: str) -> None:
    def on_step(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sink = PaimonSink(config, NAMES, consumer, PROFILE, on_step=on_step)
    position = sink.open().position
    sink.commit(batch(position, [row for gap in position.missing(num_rows) for row in range(gap.start, gap.end)]))


if __name__ == "__main__":
    where, name, count, last = sys.argv[1:]
    opened = CatalogConfig(json.loads(where), "db") if where.startswith("{") else make_warehouse(Path(where))
    if last.isdigit():
        # All begin at one word: processes that start one after the other might never meet.
        print("ready", flush=True)
        sys.stdin.readline()
        print(*race(opened, name, int(count), int(last)))
    else:
        die_at(opened, name, int(count), last)
