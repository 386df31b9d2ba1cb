import io
import random
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.errors import ObjectUnavailableError
from consumers.media.reader import RangeReader
from consumers.media.samples import Shot, write_video


class Store(io.BytesIO):
    """A store that gives short answers and can fail."""

    def __init__(self, data: bytes, most: int = 1 << 30) -> None:
        super().__init__(data)
        self.most = most
        self.num_reads = 0
        self.fails = False
        self.ends_at: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        self.num_reads += 1
        if self.fails:
            raise ConnectionResetError("gone")
        data = super().read(min(size if size is not None and size >= 0 else self.most, self.most))
        return b"" if self.ends_at is not None and self.tell() > self.ends_at else data


@given(
    st.binary(max_size=200),
    st.integers(1, 64),
    st.integers(1, 3),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 220), st.integers(0, 90)), max_size=20),
)
def test_reads_at_any_place_give_the_same_bytes_as_the_stream(
    data: bytes, window: int, num_windows: int, most: int, reads: list[tuple[int, int]]
) -> None:
    reader = RangeReader(Store(data, most), window_bytes=window, num_windows=num_windows)
    for offset, size in reads:
        reader.seek(offset)
        got = reader.read(size)
        assert got is not None
        assert got == data[offset : offset + len(got)]
        assert bool(got) == (size > 0 and offset < len(data))
    reader.seek(0)
    assert reader.readall() == data


def test_seeking_needs_no_read() -> None:
    store = Store(bytes(1000))
    reader = RangeReader(store)
    assert reader.seek(0, io.SEEK_END) == reader.size_bytes == 1000
    assert reader.seek(-10, io.SEEK_CUR) == reader.tell() == 990
    assert store.num_reads == 0
    with pytest.raises(ValueError, match="cannot seek"):
        reader.seek(-1)


def test_reading_in_two_places_by_turns_fetches_each_window_once() -> None:
    data = random.Random(1).randbytes(8000)
    reader = RangeReader(Store(data), window_bytes=1000, num_windows=3)
    for step in range(0, 2000, 50):
        for base in (0, 4000):
            reader.seek(base + step)
            assert reader.read(50) == data[base + step : base + step + 50]
    assert reader.num_reads == 4
    assert reader.bytes_read == 4000


def test_fault_of_the_store_is_raised_and_kept() -> None:
    store = Store(bytes(100))
    reader = RangeReader(store)
    store.fails = True
    with pytest.raises(ObjectUnavailableError, match="ConnectionResetError: gone"):
        reader.read(10)
    assert reader.failure is not None


def test_store_that_ends_before_its_size_is_a_fault_of_the_store() -> None:
    store = Store(bytes(100))
    reader = RangeReader(store, window_bytes=30)
    store.ends_at = 60
    with pytest.raises(ObjectUnavailableError, match="no bytes at 60 although its size is 100"):
        reader.readall()


def test_size_that_cannot_be_learned_is_a_fault_and_the_stream_is_closed() -> None:
    class Broken(Store):
        def seek(self, offset: int, whence: int = 0, /) -> int:
            raise TimeoutError("no answer")

    store = Broken(b"")
    with pytest.raises(ObjectUnavailableError, match="size could not be learned"):
        RangeReader(store)
    assert store.closed


def test_close_closes_the_stream() -> None:
    store = Store(b"x")
    RangeReader(store).close()
    assert store.closed


def test_mp4_with_its_index_at_the_end_is_decoded_in_few_reads_that_fetch_little_twice(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.mp4", [Shot(3, seed=1)], audio=True, options={"crf": "1"}).read_bytes()
    assert data.find(b"moov") > data.find(b"mdat")
    window = len(data) // 16
    reader = RangeReader(Store(data), window_bytes=window)
    with av.open(reader, mode="r") as container:
        assert sum(1 for _ in container.decode(video=0)) == 72
    assert reader.num_reads <= 16 + 3
    assert reader.bytes_read <= len(data) + 2 * window
