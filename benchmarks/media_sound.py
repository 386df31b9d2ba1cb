"""Holds the sound of one clip against that of its source."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.media_truth import SOUND_RATE_HZ, Sound, sounds

MIN_CORRELATION = 0.8
MAX_LAG_S = 0.04
"""Sound is copied in whole packets, and some codecs lose a few milliseconds at their beginning."""
MAX_LENGTH_ERROR_S = 0.15
_SEARCHED_LAG_S = 0.5
_SILENT_RMS = 1e-3
_SHORTEST_S = 0.1


@dataclass(frozen=True, slots=True)
class SoundComparison:
    """``correlation`` is that at the best lag, None where there is nothing to hear; ``lag_s`` above 0 is late."""

    correlation: float | None
    lag_s: float
    problems: tuple[str, ...]


def compare_sound(
    source: Sequence[Sound], clip: bytes, segment: int, begin_s: float, end_s: float, *, has_audio: bool
) -> SoundComparison:
    """Compare the sound of ``clip`` with ``source`` between two times on the container's clock.

    Args:
        source: all of the source's sound.
        clip: an MP4.
        segment: how often the clock began anew before the clip.
        begin_s: where the clip begins.
        end_s: where it ends.
        has_audio: what the row says.
    """
    parts = [part for part in source if part.segment == segment]
    reaches_s = min(end_s, max((part.end_s for part in parts if part.clock_s < end_s), default=begin_s))
    due = _laid_out(parts, begin_s, end_s)
    heard_parts = sounds(io.BytesIO(clip))
    problems = []
    if bool(heard_parts) != has_audio:
        problems.append(f"the row says has_audio {has_audio}, {'some' if heard_parts else 'none'} can be decoded")
    covered_s = sum(max(0.0, min(part.end_s, end_s) - max(part.clock_s, begin_s)) for part in parts)
    if not heard_parts:
        if covered_s > _SHORTEST_S:
            problems.append("has no sound, the source has")
        return SoundComparison(None, 0.0, tuple(problems))
    if covered_s <= 0:
        problems.append("has sound, the source has none there")
        return SoundComparison(None, 0.0, tuple(problems))
    heard = _laid_out(heard_parts, 0.0, end_s - begin_s)
    ended_s = max(part.end_s for part in heard_parts)
    if abs(ended_s - (reaches_s - begin_s)) > MAX_LENGTH_ERROR_S:
        problems.append(f"its sound ends at {ended_s:.3f} s, the source's at {reaches_s - begin_s:.3f} s")
    if covered_s < _SHORTEST_S or _rms(due) < _SILENT_RMS:
        if _rms(heard) > 10 * _SILENT_RMS:
            problems.append("sounds where the source is silent")
        return SoundComparison(None, 0.0, tuple(problems))
    correlation, lag_s = best_lag(due, heard)
    if correlation < MIN_CORRELATION:
        problems.append(f"its sound is not the source's (correlation {correlation:.2f})")
    elif abs(lag_s) > MAX_LAG_S:
        problems.append(f"its sound is {abs(lag_s) * 1000:.0f} ms {'late' if lag_s > 0 else 'early'}")
    return SoundComparison(correlation, lag_s, tuple(problems))


def best_lag(due: NDArray[np.float32], heard: NDArray[np.float32]) -> tuple[float, float]:
    """Return the normalised correlation at the best lag, and that lag in seconds, above 0 where ``heard`` is late.

    Of lags that are nearly as good, as with a steady tone, the least is taken.
    """
    reach = min(round(_SEARCHED_LAG_S * SOUND_RATE_HZ), len(due) - 1)
    size = 1 << (len(due) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(due, size))
    products = np.fft.irfft(spectrum, size)
    scale = float(np.linalg.norm(due.astype(np.float64)) * np.linalg.norm(heard.astype(np.float64)))
    if scale == 0:
        return 0.0, 0.0
    lags = np.arange(-reach, reach + 1)
    values = np.concatenate([products[size - reach :], products[: reach + 1]]) / scale
    good = np.flatnonzero(values >= values.max() - 0.02)
    lag = lags[good[np.argmin(np.abs(lags[good]))]]
    return float(values.max()), float(lag) / SOUND_RATE_HZ


def _laid_out(parts: Sequence[Sound], begin_s: float, end_s: float) -> NDArray[np.float32]:
    """Return the samples from ``begin_s`` to ``end_s``, silence where there is no sound."""
    laid = np.zeros(max(1, round((end_s - begin_s) * SOUND_RATE_HZ)), dtype=np.float32)
    for part in parts:
        offset = round((part.clock_s - begin_s) * SOUND_RATE_HZ)
        first, last = max(0, offset), min(len(laid), offset + len(part.samples))
        if first < last:
            laid[first:last] = part.samples[first - offset : last - offset]
    return laid


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))
