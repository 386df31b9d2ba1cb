"""What the library keeps for the page has bounds."""

from __future__ import annotations

from service.paimon_library import _MAX_CACHED_BYTES, _Pictures

_PICTURE = bytes(65_536)


def test_pictures_that_were_not_wanted_for_the_longest_time_make_room() -> None:
    pictures = _Pictures()
    for row_id in range(1000):
        pictures.add(row_id, _PICTURE)
        pictures.get(0)
    kept = [row_id for row_id in range(1000) if pictures.get(row_id) is not None]
    assert len(kept) * len(_PICTURE) == _MAX_CACHED_BYTES
    assert kept[0] == 0
    assert kept[-1] == 999


def test_picture_that_is_added_again_counts_once() -> None:
    pictures = _Pictures()
    for _ in range(1000):
        pictures.add(1, _PICTURE)
    pictures.add(2, _PICTURE)
    assert pictures.get(1) == pictures.get(2) == _PICTURE


def test_picture_larger_than_the_bound_is_not_kept() -> None:
    pictures = _Pictures()
    pictures.add(1, bytes(_MAX_CACHED_BYTES + 1))
    assert pictures.get(1) is None
    pictures.add(2, _PICTURE)
    assert pictures.get(2) == _PICTURE
