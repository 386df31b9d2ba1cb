"""An hour that is kept as one clip takes no more memory than a minute, in the worker and at the commit."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.support.long_video import SlowVideo, write_slow_video
from tests.support.warehouse import NAMES, make_warehouse, rows_of

_RUN = """
import json, re, sys
from datetime import UTC, datetime
from pathlib import Path
from consumers.clock import SystemClock
from consumers.media.allow_list import AllowList
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.paimon.catalog import CatalogConfig
from consumers.paimon.commit.sink import PaimonSink
from consumers.paimon.commit.staging import PaimonStaging
from consumers.paimon.tables import TableNames
from consumers.ports import CommitBatch
from consumers.stages.curate import VideoCurator
from schemas.positions import Position
from schemas.profile import Limits, Profile
from schemas.records import BlobReference, ProcessedVideo, RawVideo, VideoTask
from schemas.shards import Shard

def peak_kb():
    # Not ru_maxrss: that one is inherited from the process that started this one.
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

warehouse, path = sys.argv[1:]
config = CatalogConfig({"warehouse": warehouse}, "db")
profile = Profile.model_validate({
    "scene": {"threshold": 255.0},
    "nsfw": {"unscored": "pass"},
    "motion": {"mode": "score_only"},
    "aesthetic": {"mode": "score_only"},
})
sink = PaimonSink(config, TableNames(), "main", profile)
sink.open()
opener = PaimonBlobOpener(config.options, AllowList([path]))
staging = PaimonStaging(config, TableNames().curated, "main", Shard())
curator = VideoCurator(opener, profile, Limits(), SystemClock(), staging=staging)
at = datetime(2026, 1, 1, tzinfo=UTC)
video = RawVideo(0, 1, at, "db.raw_videos", "v", BlobReference(path))
outcome = curator.process(VideoTask(video, 1, 600))
worker_kb = peak_kb()
sink.commit(CommitBatch((ProcessedVideo(video, outcome, 1, at),), Position(1)))
print(json.dumps({
    "failure": outcome.failure and outcome.failure.message,
    "clips": [[c.media.cut_method, c.media.num_frames, c.media.num_bytes, c.media.held_bytes] for c in outcome.clips],
    "worker_kb": worker_kb,
    "commit_kb": peak_kb(),
}))
"""
# 80 KB each.
_VIDEO = SlowVideo(seconds_per_frame=4, frames_per_group=5, block_px=4, shift_px=2, crf=28)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_an_hour_kept_as_one_clip_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    reports = {}
    for name, duration_s in (("minute", 60), ("hour", 3600)):
        make_warehouse(tmp_path / name)
        path = write_slow_video(tmp_path / f"{name}.mp4", duration_s, _VIDEO)
        command = [sys.executable, "-c", _RUN, str(tmp_path / name), str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        reports[name] = json.loads(done.stdout)
        print(name, reports[name])
        assert reports[name]["failure"] is None
    minute, hour = reports["minute"], reports["hour"]
    method, num_frames, num_bytes, held_bytes = hour["clips"][0]
    assert (len(hour["clips"]), method, num_frames) == (1, "stream_copy", 900)
    assert num_bytes >= 60_000_000
    assert held_bytes < 100_000
    # The sink is loaded in this process, too; a worker by itself starts from half as much.
    for peak in ("worker_kb", "commit_kb"):
        assert hour[peak] <= 1.15 * minute[peak]
    [row] = rows_of(make_warehouse(tmp_path / "hour"), NAMES.curated, ["clip"])
    with av.open(io.BytesIO(row["clip"])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 900
