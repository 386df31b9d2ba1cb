from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenedetect import FrameTimecode
from scenedetect.common import Timecode
from scenedetect.detector import FlashFilter
from scenedetect.detectors import ContentDetector
from scenedetect.scene_manager import compute_downscale_factor

from consumers.stages.scene import CutFinder, SceneScorer, Verdict, scoring_size
from schemas.profile import SceneParams


def _our_cuts(times_s: list[float], scores: list[float], min_frames: int, fps: float) -> list[float]:
    finder = CutFinder(SceneParams(threshold=27.0, min_scene_len_frames=min_frames), fps)
    cuts: list[float] = []
    mark: float | None = None
    for time_s, score in zip(times_s, scores, strict=True):
        verdict = finder.step(time_s, score)
        if verdict is Verdict.CUT:
            cuts.append(time_s)
        elif verdict is Verdict.MAYBE:
            mark = time_s
        elif verdict is Verdict.CONFIRMED:
            assert mark is not None
            cuts.append(mark)
    return cuts


def _peer_cuts(times_s: list[float], scores: list[float], min_frames: int, fps: float) -> list[float]:
    flash_filter = FlashFilter(FlashFilter.Mode.MERGE, min_frames)
    cuts: list[float] = []
    for time_s, score in zip(times_s, scores, strict=True):
        timecode = FrameTimecode(Timecode(round(time_s * 1_000_000), Fraction(1, 1_000_000)), fps)
        cuts += [cut.seconds for cut in flash_filter.filter(timecode, score >= 27.0)]
    return cuts


@given(
    gaps_ms=st.lists(st.integers(1, 400), min_size=1, max_size=120),
    data=st.data(),
    min_frames=st.integers(1, 20),
    fps=st.sampled_from([1.0, 12.5, 24.0, 29.97, 60.0]),
)
def test_any_scores_at_a_variable_rate_give_the_cuts_of_pyscenedetect(
    gaps_ms: list[int], data: st.DataObject, min_frames: int, fps: float
) -> None:
    times_s = [round(sum(gaps_ms[:k]) / 1000, 3) for k in range(len(gaps_ms))]
    high = data.draw(st.lists(st.booleans(), min_size=len(times_s), max_size=len(times_s)))
    scores = [0.0] + [40.0 if one else 1.0 for one in high[1:]]
    assert _our_cuts(times_s, scores, min_frames, fps) == _peer_cuts(times_s, scores, min_frames, fps)


def test_a_burst_that_ends_becomes_one_cut_at_its_last_frame() -> None:
    scores = [0.0] * 100
    for index in (30, 40, 50, 60):
        scores[index] = 50.0
    times_s = [index / 25 for index in range(100)]
    assert _our_cuts(times_s, scores, 15, 25.0) == [30 / 25, 60 / 25]


@pytest.mark.parametrize("size", [(90, 160), (720, 1280), (1, 1), (640, 362)])
def test_scores_equal_those_of_pyscenedetect_to_the_last_bit(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    scorer, peer = SceneScorer(), ContentDetector()
    timecode = FrameTimecode(0, 25.0)
    factor = compute_downscale_factor(max(size))
    small_size = (max(1, round(size[1] / factor)), max(1, round(size[0] / factor)))
    assert scoring_size(size[1], size[0]) == small_size
    for _ in range(4):
        frame = cv2.resize(rng.integers(0, 256, (*size, 3), dtype=np.uint8), small_size)
        assert scorer.score(frame) == peer._calculate_frame_score(timecode, frame)
