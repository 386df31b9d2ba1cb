"""A worker of its own for the damaged-media suite: curates every file of a folder and tells what became of it.

Usage: ``python -m tests.support.damaged_media_worker FOLDER MEMORY_BYTES``; one JSON line
per file, in order of name, and one at the end.
"""

import json
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from consumers.clock import SystemClock
from consumers.media.allow_list import AllowList
from consumers.paimon.stores.blobs import PaimonBlobOpener
from consumers.pool.limits import explain_crashes, limit_memory
from consumers.pool.worker import process_guarded
from consumers.pool_report import VideoProgress
from consumers.stages.curate import VideoCurator
from schemas.profile import Limits, Profile
from schemas.records import BlobReference, RawVideo, VideoTask

DEADLINE_S = 240.0
LIMITS = Limits(deadline_s=DEADLINE_S)
PROFILE = Profile.model_validate({"nsfw": {"unscored": "pass"}, "motion": {"mode": "score_only"}})


def status_bytes(name):
    return int(re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def main(folder, memory_bytes):
    opener = PaimonBlobOpener({}, AllowList((str(folder),)))
    curator = VideoCurator(opener, PROFILE, LIMITS, SystemClock())
    explain_crashes()
    limit_memory(memory_bytes)
    for number, path in enumerate(sorted(folder.iterdir())):
        video = RawVideo(number, 1, datetime.now(UTC), "db.raw", path.name, BlobReference(path.as_uri()))
        started_s = time.process_time()
        outcome = process_guarded(curator, VideoTask(video, 1, DEADLINE_S), VideoProgress(SystemClock(), number))
        failure = outcome.failure
        told = {
            "name": path.name,
            "status": outcome.status.value,
            "class": failure.error_class if failure else "",
            "message": failure.message if failure else "",
            "frames": outcome.media.num_frames if outcome.media else 0,
            "kept": sum(clip.kept for clip in outcome.clips),
            "reasons": sorted({clip.reason for clip in outcome.clips if clip.reason}),
            "cpu_s": time.process_time() - started_s,
            "rss": status_bytes("VmRSS"),
        }
        print(json.dumps(told), flush=True)
    print(json.dumps({"peak_rss": status_bytes("VmHWM")}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
