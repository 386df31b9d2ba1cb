"""Where the real videos are that some tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "videos"
_FOLDER = Path(os.environ.get("TEST_SLUICE_VIDEOS", _DEFAULT))

VIDEOS: Path | None = _FOLDER if _FOLDER.is_dir() else None
"""The folder of real videos, None where there is none."""

requires_videos = pytest.mark.skipif(VIDEOS is None, reason="no real videos (set TEST_SLUICE_VIDEOS to their folder)")


def video(name: str) -> Path:
    """Return the path of one real video; only for tests marked with :data:`requires_videos`."""
    assert VIDEOS is not None
    return VIDEOS / name


def all_videos() -> list[Path]:
    """Return every real video, sorted by name; empty where there are none."""
    if VIDEOS is None:
        return []
    return sorted(path for path in VIDEOS.iterdir() if path.suffix in {".mp4", ".mkv", ".mov", ".webm"})


_FAULTS = _FOLDER.parent / "faults" / "media"
FAULTS: Path | None = _FAULTS if _FAULTS.is_dir() else None
"""The folder of small files that were once read or cut wrongly, None where there is none; beside the real videos."""

requires_faults = pytest.mark.skipif(FAULTS is None, reason="no files of past faults (beside the real videos)")
