import io

import pytest

from consumers.media.structure import is_whole

EBML = bytes.fromhex("1A45DFA3 84 42868101".replace(" ", ""))
SEGMENT = bytes.fromhex("18538067")


def riff(size: int, payload: bytes) -> bytes:
    return b"RIFF" + size.to_bytes(4, "little") + payload


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (riff(20, bytes(20)), True),
        (riff(20, bytes(19)), False),
        (riff(20, bytes(20)) + riff(8, bytes(8)), True),
        (riff(20, bytes(20)) + riff(8, bytes(7)), False),
        (riff(0, bytes(20)), False),
        (EBML + SEGMENT + b"\x88" + bytes(8), True),
        (EBML + SEGMENT + b"\x88" + bytes(7), False),
        (EBML + SEGMENT + b"\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(8), False),
        (EBML + SEGMENT, False),
        (b"\x1a\x45\xdf\xa3", False),
        (b"", False),
        (b"\x00\x00\x00\x20ftypisom", False),
    ],
)
def test_a_container_is_whole_that_has_the_bytes_it_states(content: bytes, whole: bool) -> None:
    assert is_whole(io.BytesIO(content)) is whole
