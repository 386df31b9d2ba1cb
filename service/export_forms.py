"""The forms of an export: how clips are described, and where their bytes go."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from consumers.paimon.reading.clips import ClipBytes, ClipRecord
from schemas.tables import CURATED

INDEX_NAME, PARQUET_NAMES = "clips.jsonl", "clips-*.parquet"
PARTIAL = ".partial"
"""What is being written has a dot before its name and this behind it."""
_CLIPS_A_STEP = 500
_CLIPS_A_SHARD, _SHARD_BYTES = 1000, 512 * 1024**2
_NOT_DESCRIBED = {"clip", "thumbnail_jpeg"}


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that is written."""

    record: ClipRecord
    media: ClipBytes | None
    thumbnail: bytes | None


def columns_of(record: ClipRecord) -> dict[str, Any]:
    """Return what is told of a clip: every column but the bytes."""
    return {name: value for name, value in record.values.items() if name not in _NOT_DESCRIBED}


class Index(Protocol):
    """Describes clips."""

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield clip id and consumer of each clip that an earlier run has described."""
        ...

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Describe further clips, all of them or none."""
        ...


class JsonLines:
    """One file, ``clips.jsonl``, with a line for each clip.

    Args:
        folder: of the export.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / INDEX_NAME

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield clip id and consumer of each clip that is described."""
        if not self._path.exists():
            return
        num_bytes = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                num_bytes += len(line)
                values = json.loads(line)
                yield values["clip_id"], values["consumer"]
        with self._path.open("r+b") as file:
            # A run that was killed may have left half a line.
            file.truncate(num_bytes)

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Describe further clips."""
        text = "".join(json.dumps(line, default=datetime.isoformat) + "\n" for line in lines)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text)


class ParquetFiles:
    """Files ``clips-000000.parquet`` and so on.

    Args:
        folder: of the export.
    """

    _SCHEMA = pa.schema(
        [
            pa.field("video_file", pa.string()),
            pa.field("thumbnail_file", pa.string()),
            pa.field("shard", pa.string()),
            *(field for field in CURATED.schema if field.name not in _NOT_DESCRIBED),
        ]
    )

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def described(self) -> Iterator[tuple[str, str]]:
        """Yield clip id and consumer of each clip that is described."""
        for path in sorted(self._folder.glob(PARQUET_NAMES)):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=["clip_id", "consumer"]):
                    for row in batch.to_pylist():
                        yield row["clip_id"], row["consumer"]

    def append(self, lines: list[dict[str, Any]]) -> None:
        """Describe further clips."""
        name = _next_name(self._folder, "parquet")
        partial = self._folder / f".{name}{PARTIAL}"
        pq.write_table(pa.Table.from_pylist(lines, schema=self._SCHEMA), partial)
        partial.replace(self._folder / name)


class Media(Protocol):
    """Takes the bytes of clips."""

    def undescribed(self) -> list[dict[str, Any]]:
        """Return descriptions of clips that an earlier run has written and may not have described."""
        ...

    def add(self, clip: Clip) -> dict[str, Any]:
        """Write a clip's bytes; return where they are."""
        ...

    def is_due(self, num_clips: int) -> bool:
        """Return whether the clips since the last :meth:`seal` are to be described now."""
        ...

    def seal(self) -> None:
        """Have everything that was written stand under its name."""
        ...

    def close(self) -> None:
        """Let go of what is not sealed."""
        ...


class Files:
    """An MP4 and a JPEG for each clip, named by its id.

    Args:
        folder: of the export.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def undescribed(self) -> list[dict[str, Any]]:
        """Return none: such clips are written again."""
        return []

    def add(self, clip: Clip) -> dict[str, Any]:
        """Write a clip's bytes; return where they are."""
        clip_id = clip.record.values["clip_id"]
        line: dict[str, Any] = {"video_file": None, "thumbnail_file": None}
        if clip.media is not None:
            line["video_file"] = self._write(f"{clip_id}.mp4", clip.media.chunks(0, clip.media.num_bytes))
        if clip.thumbnail is not None:
            line["thumbnail_file"] = self._write(f"{clip_id}.jpg", [clip.thumbnail])
        return line

    def _write(self, name: str, chunks: Iterable[bytes]) -> str:
        partial = self._folder / f".{name}{PARTIAL}"
        with partial.open("wb") as file:
            file.writelines(chunks)
        partial.replace(self._folder / name)
        return name

    def is_due(self, num_clips: int) -> bool:
        """Return whether it is time to seal and describe."""
        return num_clips >= _CLIPS_A_STEP

    def seal(self) -> None:
        """Do nothing: each file has its name at once."""

    def close(self) -> None:
        """Do nothing."""


class Shards:
    """Tar files ``clips-000000.tar`` and so on, of up to 1000 clips or 512 MiB, in the form of WebDataset.

    Members of one sample follow each other, and share their name up to the first dot.

    Args:
        folder: of the export.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tar: tarfile.TarFile | None = None
        self._name = ""

    def undescribed(self) -> list[dict[str, Any]]:
        """Return descriptions of clips that may not have been described."""
        # Those before the last one were described before the last one was begun.
        last = max(self._folder.glob("clips-*.tar"), default=None)
        if last is None:
            return []
        lines = []
        with tarfile.open(last) as tar:
            held = set(tar.getnames())
            for name in sorted(name for name in held if name.endswith(".json")):
                file = tar.extractfile(name)
                values = json.load(file) if file is not None else {}
                for field in CURATED.schema:
                    if pa.types.is_timestamp(field.type) and values.get(field.name) is not None:
                        values[field.name] = datetime.fromisoformat(values[field.name])
                lines.append(_places(values["clip_id"], held) | {"shard": last.name} | values)
        return lines

    def add(self, clip: Clip) -> dict[str, Any]:
        """Write a clip's bytes; return where they are."""
        if self._tar is None:
            self._name = _next_name(self._folder, "tar")
            self._tar = tarfile.open(self._folder / f".{self._name}{PARTIAL}", "w")  # noqa: SIM115 closed by seal
        clip_id = clip.record.values["clip_id"]
        described = json.dumps(columns_of(clip.record), default=datetime.isoformat).encode()
        members: dict[str, tuple[int, Any]] = {}
        if clip.media is not None:
            members[f"{clip_id}.mp4"] = (clip.media.num_bytes, _Stream(clip.media))
        if clip.thumbnail is not None:
            members[f"{clip_id}.jpg"] = (len(clip.thumbnail), io.BytesIO(clip.thumbnail))
        members[f"{clip_id}.json"] = (len(described), io.BytesIO(described))
        for name, (num_bytes, content) in members.items():
            member = tarfile.TarInfo(name)
            member.size = num_bytes
            self._tar.addfile(member, content)
        return _places(clip_id, members) | {"shard": self._name}

    def is_due(self, num_clips: int) -> bool:
        """Return whether it is time to seal and describe."""
        return num_clips >= _CLIPS_A_SHARD or (self._tar is not None and self._tar.offset >= _SHARD_BYTES)

    def seal(self) -> None:
        """Have what was written stand under its name."""
        if self._tar is not None:
            self._tar.close()
            (self._folder / f".{self._name}{PARTIAL}").replace(self._folder / self._name)
            self._tar = None

    def close(self) -> None:
        """Let go of what is not sealed."""
        if self._tar is not None:
            self._tar.close()


def _places(clip_id: str, names: Container[str]) -> dict[str, Any]:
    files = {"video_file": f"{clip_id}.mp4", "thumbnail_file": f"{clip_id}.jpg"}
    return {key: name if name in names else None for key, name in files.items()}


class _Stream(io.RawIOBase):
    def __init__(self, media: ClipBytes) -> None:
        super().__init__()
        self._media = media
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = self._media.num_bytes - self._position
        data = self._media.read(self._position, self._position + (left if size < 0 else min(size, left)))
        self._position += len(data)
        return data


def _next_name(folder: Path, ending: str) -> str:
    numbers = [int(path.stem.rpartition("-")[2]) for path in folder.glob(f"clips-*.{ending}")]
    return f"clips-{max(numbers, default=-1) + 1:06}.{ending}"
