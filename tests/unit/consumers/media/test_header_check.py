import io

import pytest

from consumers.errors import IndexTooLargeError
from consumers.media.header_check import HeaderCheck
from consumers.media.reader import RangeReader
from tests.support.bomb_media import bombs, harmless

PIECE_BYTES = 1 << 20
BOMBS = bombs()


def read_all(content, piece_bytes=PIECE_BYTES):
    reader = RangeReader(io.BytesIO(content))
    check = HeaderCheck(reader)
    start = 0
    while True:
        reader.seek(start)
        piece = reader.read(piece_bytes)
        check.look(start, piece)
        start += len(piece)
        if not piece:
            return reader


@pytest.mark.parametrize(("name", "content", "said"), BOMBS, ids=[name for name, _, _ in BOMBS])
def test_a_file_made_to_kill_is_refused_in_words(name, content, said):
    with pytest.raises(IndexTooLargeError, match=said):
        read_all(content)


@pytest.mark.parametrize(("name", "content", "said"), BOMBS[:21], ids=[name for name, _, _ in BOMBS[:21]])
def test_wherever_pieces_end(name, content, said):
    with pytest.raises(IndexTooLargeError, match=said):
        read_all(content, 4099)


@pytest.mark.parametrize(("name", "content"), harmless(), ids=[name for name, _ in harmless()])
def test_what_declares_much_for_good_reason_is_read(name, content):
    read_all(content)


def test_nothing_is_read_that_the_demuxer_does_not_read_itself():
    media = (8 << 20).to_bytes(4, "big") + b"mdat" + bytes((8 << 20) - 8)
    content = harmless()[0][1] + media
    assert read_all(content).bytes_read == len(content)


def test_a_look_at_the_end_does_not_follow_all_fragments():
    reader = RangeReader(io.BytesIO(b"\0\0\0\x08free" * 3_000_000))
    check = HeaderCheck(reader)
    reader.seek(0)
    check.look(0, reader.read(100))
    before = reader.num_reads
    check.look(23_000_000, bytes(1000))
    assert reader.num_reads <= before + 1
