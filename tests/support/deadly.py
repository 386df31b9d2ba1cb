"""One life of a consumer whose videos may end the whole process; arguments are config, shard and pool.

What a video does stands in its id, before the first dash: ``kill`` and ``segfault`` end the process, ``hog`` takes 8 GB
of private memory and ``share`` as much of shared memory, which no bound of a process sees; everything else is curated.
"""

import ctypes
import json
import mmap
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
from consumers.pool.container import memory_limit
from consumers.pool.inline import InlinePool
from consumers.pool.memory_plan import plan_workers
from schemas.shards import Shard
from tests.support.consuming import outcome_of
from tests.support.warehouse import NAMES, PROFILE

MAX_DEATHS = 2
_HUNGER_BYTES = 8 << 30
_OBJECT_STORE_BYTES = 100 << 20
_RETRY = RetryPolicy(max_attempts=2, max_worker_deaths=MAX_DEATHS, base_s=0.1, max_s=0.1)


class _Deadly:
    def process(self, task, progress):
        match task.video.video_id.partition("-")[0]:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "segfault":
                ctypes.string_at(0)
            case "hog":
                bytearray(_HUNGER_BYTES)
            case "share":
                with mmap.mmap(-1, _HUNGER_BYTES) as memory:
                    for page in range(0, _HUNGER_BYTES, mmap.PAGESIZE):
                        memory[page] = 1
        return outcome_of(task)


def _make_pool(kind):
    if kind == "inline":
        return InlinePool(_Deadly, num_workers=2)
    from consumers.pool.ray_serve import RayPoolConfig, RayServePool

    planned = plan_workers(
        memory_limit(), num_cpus=2, num_workers=None, worker_bytes=None, object_store_bytes=_OBJECT_STORE_BYTES
    )
    config = RayPoolConfig(
        app_name="deadly",
        num_replicas=planned.num_workers,
        worker_memory_bytes=planned.worker_bytes,
        object_store_bytes=_OBJECT_STORE_BYTES,
    )
    return RayServePool(_make_deadly, config)


def _make_deadly():
    return _Deadly()


def main():
    options, shard = json.loads(sys.argv[1]), Shard.parse(sys.argv[2])
    config = CatalogConfig(options, "db")
    sink = PaimonSink(config, NAMES, "main", PROFILE, shard=shard)
    pool = _make_pool(sys.argv[3])
    pool.start()
    processor = Processor(
        RowIdSource(config, NAMES.raw),
        sink,
        pool,
        SystemClock(),
        config=ProcessorConfig(commit=CommitPolicy(interval_s=0.2), retry=_RETRY),
        run_notes=PaimonRunNotes(config, NAMES.control, f"main.{shard.index}of{shard.count}"),
    )
    processor.run(until_caught_up=True)
    pool.close()
    sink.close()
