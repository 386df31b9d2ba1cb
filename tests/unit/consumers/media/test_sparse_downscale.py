import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from consumers.media.sparse import SparseDownscaler, rows_read


@given(height=st.integers(1, 2000), data=st.data())
def test_rows_left_out_have_no_weight(height: int, data: st.DataObject) -> None:
    small_height = data.draw(st.integers(1, height))
    pixels = np.random.default_rng(0).integers(0, 256, (height, 4, 3), dtype=np.uint8)
    sparse = np.zeros_like(pixels)
    rows = rows_read(height, small_height)
    sparse[rows] = pixels[rows]
    size = (4, small_height)
    assert np.array_equal(cv2.resize(pixels, size), cv2.resize(sparse, size))


@pytest.mark.parametrize("shape", [(720, 1280), (272, 1280), (361, 643)])
def test_a_444_frame_downscaled_by_rows_equals_the_full_conversion(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    size = (256, max(1, round(shape[0] * 256 / shape[1])))
    downscaler = SparseDownscaler()
    for _ in range(3):
        frame = VideoFrame.from_ndarray(rng.integers(0, 256, (3, *shape), dtype=np.uint8), format="yuv444p")
        plain = cv2.resize(frame.to_ndarray(format="bgr24", interpolation="BICUBIC"), size)
        assert np.array_equal(downscaler.downscale(frame, size), plain)


def test_a_420_frame_is_left_to_the_plain_way() -> None:
    assert SparseDownscaler().downscale(VideoFrame(64, 64, "yuv420p"), (32, 32)) is None
