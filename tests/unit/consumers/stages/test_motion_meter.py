import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from consumers.stages.motion import MotionMeter
from schemas.profile import MotionParams


def _texture(height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    noise = np.random.default_rng(7).integers(0, 256, (height, width), dtype=np.uint8)
    return np.asarray(cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 4), None, 0, 255, cv2.NORM_MINMAX))


def _sampled(num_frames: int, fps: float, sampling_fps: float) -> list[int]:
    meter = MotionMeter(MotionParams(sampling_fps=sampling_fps), fps)
    blank = np.zeros((16, 16), dtype=np.uint8)
    sampled = []
    for index in range(num_frames):
        if meter.wants(index / fps):
            meter.add(index / fps, blank, (16, 16))
            sampled.append(index)
    if num_frames and meter.lacks_end((num_frames - 1) / fps):
        sampled.append(num_frames - 1)
    return sampled


@given(
    num_frames=st.integers(0, 400),
    fps=st.sampled_from([1.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0]),
    sampling_fps=st.sampled_from([0.5, 1.0, 2.0, 30.0]),
)
def test_samples_of_a_constant_rate_are_those_of_the_peer_without_its_repeats(
    num_frames: int, fps: float, sampling_fps: float
) -> None:
    step = max(min(round(fps / min(sampling_fps, fps)), num_frames - 1), 1)
    peer = [0, 1, *range(step, num_frames, step)]
    assert _sampled(num_frames, fps, sampling_fps) == sorted({index for index in peer if index < num_frames})


@pytest.mark.parametrize(("long_side_px", "tolerance"), [(None, 0.3), (256, 0.5), (128, 1.0)])
def test_a_pan_measures_its_pixels_at_every_size(long_side_px: int | None, tolerance: float) -> None:
    meter = MotionMeter(MotionParams(resize_long_side_px=long_side_px), 2.0)
    picture = _texture()
    size = (320, 240) if long_side_px is None else (long_side_px, long_side_px * 240 // 320)
    for index in range(4):
        moved = np.roll(picture, 4 * index, axis=1)
        small = np.asarray(cv2.resize(moved, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        meter.add(index / 2, small, (320, 240))
    measured = meter.measurement()
    assert measured.num_pairs == 3
    assert measured.mean_magnitude == pytest.approx(4.0, abs=tolerance)


def test_relative_motion_is_a_share_of_the_diagonal() -> None:
    picture = _texture()
    values = []
    for relative in (False, True):
        meter = MotionMeter(MotionParams(relative=relative, resize_long_side_px=None), 2.0)
        for index in range(2):
            meter.add(index / 2, np.roll(picture, index, axis=0), (320, 240))
        values.append(meter.measurement().mean_magnitude)
    assert values[0] is not None
    assert values[1] == pytest.approx(values[0] / 400)


def test_a_single_sample_measures_nothing_and_names_the_method() -> None:
    meter = MotionMeter(MotionParams(resize_long_side_px=None), 25.0)
    meter.add(0.0, np.zeros((8, 8), dtype=np.uint8), (8, 8))
    measured = meter.measurement()
    assert (measured.mean_magnitude, measured.num_pairs, measured.method) == (None, 0, "farneback/full")
