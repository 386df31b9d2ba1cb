from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import pytest
from av.packet import Packet
from av.stream import Stream
from hypothesis import given
from hypothesis import strategies as st

from consumers.media.spool import PACKETS_IN_MEMORY_BYTES, PacketQueue


@pytest.fixture(scope="module")
def stream() -> Iterator[Stream]:
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        yield container.add_stream("libx264", rate=25)


def packet(stream: Stream, size: int, pts: int | None, dts: int | None, *, is_keyframe: bool) -> Packet[Stream]:
    made: Packet[Stream] = Packet(bytes([size % 251]) * size)
    made.stream, made.time_base = stream, Fraction(1, 90_000)
    made.pts, made.dts, made.duration, made.is_keyframe = pts, dts, 3600, is_keyframe
    return made


def told(item: Packet[Stream]) -> tuple[object, ...]:
    return bytes(item), item.pts, item.dts, item.duration, item.time_base, item.is_keyframe, item.stream


stamps = st.none() | st.integers(-(2**40), 2**40)


@given(st.lists(st.tuples(st.integers(1, 2**21), stamps, stamps, st.booleans()), max_size=8))
def test_packets_come_out_as_they_went_in_whether_from_memory_or_disk(
    stream: Stream, made: list[tuple[int, int | None, int | None, bool]]
) -> None:
    queue = PacketQueue()
    queue.extend(packet(stream, size, pts, dts, is_keyframe=key) for size, pts, dts, key in made)
    assert len(queue) == len(made)
    wanted = [told(packet(stream, size, pts, dts, is_keyframe=key)) for size, pts, dts, key in made]
    assert [told(item) for item in queue.drain()] == wanted
    assert len(queue) == 0


def test_cleared_queue_begins_anew(stream: Stream) -> None:
    queue = PacketQueue()
    queue.extend(packet(stream, PACKETS_IN_MEMORY_BYTES, n, n, is_keyframe=True) for n in range(3))
    queue.clear()
    queue.append(packet(stream, 10, 7, 7, is_keyframe=False))
    assert [item.pts for item in queue.drain()] == [7]
