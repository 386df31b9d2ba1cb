"""Runs the single pass in tests."""

from __future__ import annotations

import io
from pathlib import Path

from consumers.clock import Deadline, SystemClock
from consumers.stages.base import ClipEvidence
from consumers.stages.single_pass import SinglePass
from schemas.profile import Limits, Profile
from schemas.records import MediaInfo

ONE_CLIP = Profile.model_validate({"scene": {"threshold": 255}})
"""No score is as high: the whole video is one clip."""


def run_pass(
    source: Path | bytes, profile: Profile | None = None, limits: Limits | None = None
) -> tuple[list[ClipEvidence], MediaInfo]:
    """Return every clip of a file or of bytes, and what was found out about it."""
    stream = io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())
    single_pass = SinglePass(stream, profile or Profile(), limits or Limits(), Deadline(SystemClock(), 120))
    return list(single_pass.clips()), single_pass.media
