"""One life of a consumer whose videos may end the whole process: ``python -m tests.support.deadly CONFIG``.

What a video does stands in its id, before the first dash: ``kill`` and ``segfault`` end the process, everything else is
curated.
"""

import ctypes
import json
import os
import signal
import sys

from consumers.clock import SystemClock
from consumers.loop.commit_policy import CommitPolicy
from consumers.loop.config import ProcessorConfig
from consumers.loop.processor import Processor
from consumers.loop.retry import RetryPolicy
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.run_notes import PaimonRunNotes
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.source.row_source import RowIdSource
from consumers.pool.inline import InlinePool
from schemas.shards import Shard
from tests.support.consuming import outcome_of
from tests.support.warehouse import NAMES, PROFILE

MAX_DEATHS = 2


class _Deadly:
    def process(self, task, progress):
        match task.video.video_id.partition("-")[0]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segfault":
                ctypes.string_at(0)
        return outcome_of(task)


def main():
    options, shard = json.loads(sys.argv[1]), Shard.parse(sys.argv[2])
    config = CatalogConfig(options, "db")
    sink = PaimonSink(config, NAMES, "main", PROFILE, shard=shard)
    pool = InlinePool(_Deadly, num_workers=2)
    pool.start()
    processor = Processor(
        RowIdSource(config, NAMES.raw),
        sink,
        pool,
        SystemClock(),
        config=ProcessorConfig(commit=CommitPolicy(interval_s=0.2), retry=RetryPolicy(max_worker_deaths=MAX_DEATHS)),
        run_notes=PaimonRunNotes(config, NAMES.control, f"main.{shard.index}of{shard.count}"),
    )
    processor.run(until_caught_up=True)
    pool.close()
    sink.close()


if __name__ == "__main__":
    main()
