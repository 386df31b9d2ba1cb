"""Files made to kill: small, and their headers declare more than any machine has memory for."""

import struct
import zlib

NUM_SAMPLES = 80_000_000


def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind, *parts, version=0, flags=0):
    return box(kind, struct.pack(">B3s", version, flags.to_bytes(3, "big")), *parts)


def u32(*values):
    return struct.pack(f">{len(values)}I", *values)


MATRIX = u32(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
HEAD = box(b"ftyp", b"isom", u32(512), b"isommp42") + box(b"mdat", bytes(100))


def picture_entry():
    sizes = struct.pack(">HH", 64, 64) + u32(0x480000, 0x480000, 0) + struct.pack(">H", 1)
    return box(b"mp4v", bytes(6), struct.pack(">H", 1), bytes(16), sizes, bytes(32), struct.pack(">Hh", 24, -1))


def sound_entry():
    return box(b"sowt", bytes(6), struct.pack(">H", 1), bytes(8), struct.pack(">HHHHI", 2, 16, 0, 0, 48000 << 16))


def sample_table(count, *, size=1, in_chunk=None, num_chunks=1, entry=None, more=b"", stsz=None):
    return box(
        b"stbl",
        full_box(b"stsd", u32(1), entry or picture_entry()),
        full_box(b"stts", u32(1, count, 1)),
        full_box(b"stsc", u32(1, 1, count if in_chunk is None else in_chunk, 1)),
        stsz or full_box(b"stsz", u32(size, count)),
        full_box(b"stco", u32(num_chunks), u32(*([40] * num_chunks))),
        more,
    )


def track(table, handler=b"vide", edits=b""):
    media_header = full_box(b"vmhd", bytes(8), flags=1) if handler == b"vide" else full_box(b"smhd", bytes(4))
    return box(
        b"trak",
        full_box(b"tkhd", u32(0, 0, 1, 0, 1000), bytes(16), MATRIX, u32(64 << 16, 64 << 16), flags=7),
        edits,
        box(
            b"mdia",
            full_box(b"mdhd", u32(0, 0, 1000, 1000), bytes(4)),
            full_box(b"hdlr", bytes(4), handler, bytes(13)),
            box(b"minf", media_header, box(b"dinf", full_box(b"dref", u32(1), full_box(b"url ", flags=1))), table),
        ),
    )


def movie(*parts):
    return box(b"moov", full_box(b"mvhd", u32(0, 0, 1000, 1000, 0x10000), bytes(12), MATRIX, bytes(24), u32(2)), *parts)


def compressed(index, declared=None):
    declared = len(index) if declared is None else declared
    return box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", u32(declared), zlib.compress(index, 9))))


def edit_list(count):
    return box(b"edts", full_box(b"elst", u32(count), u32(1, 999, 0x10000) * count))


def fragment(count, num_runs=1):
    header = full_box(b"tfhd", u32(1), flags=0x20000)
    runs = [full_box(b"trun", u32(count))] * num_runs
    return box(b"moof", full_box(b"mfhd", u32(1)), box(b"traf", header, full_box(b"tfdt", u32(0)), *runs))


def ebml(element, payload, *, size=None):
    """Return an element whose size takes 8 bytes; ``size`` is what it says instead."""
    head = bytes.fromhex(element)
    return head + ((1 << 56) | (len(payload) if size is None else size)).to_bytes(8, "big") + payload


def matroska(*elements):
    return ebml("1a45dfa3", ebml("4282", b"webm")) + ebml("18538067", b"".join(elements))


def mxf_index(duration, num_entries=1, sid=1):
    fields = (
        (0x3F06, u32(sid)),
        (0x3F0C, bytes(8)),
        (0x3F0D, duration.to_bytes(8, "big")),
        (0x3F0A, u32(num_entries, 11) + bytes(11 * num_entries)),
    )
    body = b"".join(struct.pack(">HH", tag, len(value)) + value for tag, value in fields)
    return bytes.fromhex("060e2b34025301010d01020101100100") + b"\x83" + len(body).to_bytes(3, "big") + body


def mxf(*sets):
    return bytes.fromhex("060e2b34020501010d01020101020400") + b"\x83\0\0\x58" + bytes(88) + b"".join(sets)


def flv(num_keyframes):
    number = b"\0" + bytes(8)
    body = b"\x02\0\x0aonMetaData\x08" + u32(1) + b"\0\x09keyframes\x03"
    for name in (b"\0\x05times", b"\0\x0dfilepositions"):
        body += name + b"\x0a" + u32(num_keyframes) + number * 10
    body += b"\0\0\x09" * 2
    script = b"\x12" + len(body).to_bytes(3, "big") + bytes(7) + body
    return b"FLV\1\5" + u32(9, 0) + script + u32(len(script))


def avi(num_index_bytes):
    movi = b"LIST" + (4).to_bytes(4, "little") + b"movi"
    index = b"idx1" + num_index_bytes.to_bytes(4, "little") + bytes(num_index_bytes)
    body = b"AVI " + movi + index
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def deep(index, depth):
    for _ in range(depth):
        index = box(b"udta", index)
    return index


def bombs():
    """Return the name, the content and a part of what is said of each."""
    samples = sample_table(NUM_SAMPLES)
    many_edits = track(sample_table(2000, more=full_box(b"stss", u32(1, 1))), edits=edit_list(20_000))
    sound = sample_table(2**31 - 1, in_chunk=2**31 - 1, num_chunks=60, entry=sound_entry())
    with_offsets = sample_table(NUM_SAMPLES, entry=sound_entry(), more=full_box(b"ctts", u32(1, NUM_SAMPLES, 1)))
    return [
        ("samples of one size", HEAD + movie(track(samples)), "can hold 687 at most"),
        (
            "samples of one size, padded",
            HEAD + movie(track(samples), box(b"free", bytes(3 << 20))),
            "an object of 3,146,4",
        ),
        ("index first", HEAD[:24] + movie(track(samples)) + box(b"mdat", bytes(100)), "80,000,000 entries"),
        ("behind an unknown box", box(b"abcd", bytes(8)) + HEAD + movie(track(samples)), "80,000,000"),
        ("a size of 64 bits", HEAD + _long(movie(track(samples))), "80,000,000"),
        ("a size of 0", HEAD + u32(0) + movie(track(samples))[4:], "80,000,000"),
        ("nested", HEAD + movie(deep(track(samples), 5)), "80,000,000"),
        ("in the track itself", HEAD + movie(box(b"trak", full_box(b"stsz", u32(1, NUM_SAMPLES)))), "80,000,000"),
        ("no track at all", HEAD + movie(full_box(b"stsz", u32(1, NUM_SAMPLES))), "80,000,000"),
        ("in a sample entry", HEAD + movie(track(_in_entry())), "80,000,000"),
        ("sizes that are not there", HEAD + movie(track(sample_table(NUM_SAMPLES, size=0))), "its box can hold 0"),
        ("compact sizes", HEAD + movie(track(_compact())), "its box can hold 0"),
        ("tables of sizes", HEAD + movie(*[track(sample_table(900_000, size=1))] * 12), "10,000,000"),
        ("uncompressed sound", HEAD + movie(track(sound, b"soun")), "125,829,120"),
        ("sound with offsets", HEAD + movie(track(with_offsets, b"soun")), "80,000,000"),
        ("edits of one long group", HEAD + movie(many_edits), "20,000 edits"),
        ("compressed, by its size", HEAD + compressed(movie(box(b"free", bytes(100 << 20)))), "unpacked"),
        ("compressed, by what it declares", HEAD + compressed(b"", 2**31), "2,147,483,648"),
        ("samples in a compressed index", HEAD + compressed(movie(track(samples))), "80,000,000"),
        ("a run of a fragment", HEAD + movie(track(sample_table(0))) + fragment(NUM_SAMPLES), "'trun'"),
        ("many runs", HEAD + movie(track(sample_table(0))) + fragment(900_000, 12), "10,000,000"),
        ("many boxes", HEAD + movie(box(b"udta", box(b"free") * 100_001)), "100,000 boxes"),
        ("a long index", HEAD + u32(2**31 - 1) + b"moov" + bytes(257 << 20), "268,435,456"),
        ("cues of a Matroska", matroska(ebml("1c53bb6b", bytes(33 << 20))), "'Cues'"),
        ("cues behind the media", _cues_behind(), "'Cues'"),
        ("tags of a Matroska", matroska(ebml("1254c367", bytes(17 << 20))), "'Tags'"),
        ("the index of an AVI", avi(161 << 20), "'idx1'"),
        ("keyframes of an FLV", flv(2**28 - 1), "268,435,455 entries"),
        ("the index of an MXF", mxf(mxf_index(NUM_SAMPLES)), "MXF"),
        ("many indexes of an MXF", mxf(*[mxf_index(900_000, sid=sid) for sid in range(12)]), "MXF"),
    ]


def harmless():
    """Return the name and content of files that declare much, and for good reason."""
    hour = 48_000 * 3600
    sound = sample_table(hour, size=4, in_chunk=4800, num_chunks=36_000, entry=sound_entry())
    return [
        ("a day of uncompressed sound", HEAD + movie(track(sound, b"soun"))),
        ("a few edits", HEAD + movie(track(sample_table(900_000), edits=edit_list(10)))),
        ("a table cut short", HEAD + movie(track(sample_table(900_000, size=0)))),
        ("frames of one size in an MXF", mxf(mxf_index(2 * hour, num_entries=0))),
        ("one index in each partition", mxf(*[mxf_index(2_000_000)] * 10)),
        ("a small compressed index", HEAD + compressed(movie(track(sample_table(100))))),
        ("a broken compressed index", HEAD + box(b"moov", box(b"cmov", box(b"cmvd", u32(100), b"no zlib")))),
        ("few keyframes of an FLV", flv(10)),
        ("cut off in a header", HEAD[:30]),
        ("nothing", b""),
    ]


def _long(index):
    return u32(1) + index[4:8] + (len(index) + 8).to_bytes(8, "big") + index[8:]


def _in_entry():
    return sample_table(1, entry=box(b"mp4v", picture_entry()[8:], full_box(b"stsz", u32(1, NUM_SAMPLES))))


def _compact():
    return sample_table(1, stsz=full_box(b"stz2", u32(8, NUM_SAMPLES)))


def _cues_behind():
    media = ebml("1f43b675", bytes(2 << 20))
    head_bytes = 4 + 8 + 2 + 8 + 2 + 8 + 8
    seek = ebml("4dbb", ebml("53ac", (head_bytes + len(media)).to_bytes(8, "big")))
    return matroska(ebml("114d9b74", seek), media, ebml("1c53bb6b", bytes(33 << 20)))
