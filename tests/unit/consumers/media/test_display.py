import itertools

import numpy as np
import pytest

from consumers.media.display import UPRIGHT, Orientation

WAYS = [Orientation(*way) for way in itertools.product([False, True], repeat=3)]


def test_the_eight_ways_give_eight_pictures() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    pictures = {(way.upright(pixels).shape, way.upright(pixels).tobytes()) for way in WAYS}
    assert len(pictures) == 8


@pytest.mark.parametrize("way", WAYS)
def test_a_way_is_its_turn_and_then_its_mirror(way: Orientation) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    expected = np.rot90(pixels, way.rotation_degrees // 90)
    if way.is_mirrored:
        expected = expected[:, ::-1]
    assert np.array_equal(way.upright(pixels), expected)
    assert way.size(4, 2) == (expected.shape[1], expected.shape[0])


def test_an_upright_picture_is_not_copied() -> None:
    pixels = np.zeros((2, 4, 3), dtype=np.uint8)
    assert UPRIGHT.upright(pixels) is pixels
    assert not UPRIGHT.is_mirrored
