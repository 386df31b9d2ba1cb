"""Cuts the middle of a file as H.264 and prints the SHA-256 of the clip: ``python -m tests.support.cut_hash FILE``."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

from consumers.clock import Deadline, SystemClock
from consumers.media.cut import ClipCutter
from tests.support.clips import read_source

if __name__ == "__main__":
    path = Path(sys.argv[1])
    source = read_source(path)
    cutter = ClipCutter(io.BytesIO(path.read_bytes()), "h264", Deadline(SystemClock(), 120.0))
    result = cutter.cut(source.span(6, len(source.frames) - 6), starts_on_keyframe=False)
    assert result.file is not None
    result.file.seek(0)
    print(hashlib.sha256(result.file.read()).hexdigest())
