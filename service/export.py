"""Clips written to a folder, ready for training: again and again, each clip once, whenever the last run ended.

A folder holds a description of each clip (an *index*: JSON lines, or Parquet files) and its bytes (*media*: a file for
each, or tar files in the form of WebDataset). Bytes are there before they are described, under their name only when
they are complete. What is described is done: there is no other record of progress to disagree with it. A tar file
describes its clips itself, too, and where a run ended before the index had all of them, the next one takes them from
there.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from consumers.errors import ConfigurationError
from consumers.paimon.landing.digest_set import DigestSet
from consumers.paimon.reading.clips import ClipReader, ClipRecord
from service.export_forms import (
    INDEX_NAME,
    PARQUET_NAMES,
    PARTIAL,
    Clip,
    Files,
    Index,
    JsonLines,
    Media,
    ParquetFiles,
    Shards,
    columns_of,
)


class IndexForm(StrEnum):
    """How clips are described."""

    JSONL = "jsonl"
    PARQUET = "parquet"

    @property
    def files(self) -> str:
        """Name of the files that hold the descriptions, as a pattern."""
        return INDEX_NAME if self is IndexForm.JSONL else PARQUET_NAMES


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did.

    Attributes:
        num_new: clips that were written.
        num_known: clips that were there from an earlier run.
        num_references: of the new ones those that have no bytes, only a source and a span.
    """

    num_new: int
    num_known: int
    num_references: int


def export(
    reader: ClipReader,
    records: Iterable[ClipRecord],
    folder: Path,
    *,
    form: IndexForm = IndexForm.JSONL,
    shards: bool = False,
    on_progress: Callable[[int], None] = lambda count: None,
) -> ExportReport:
    """Write those of ``records`` that ``folder`` does not describe yet.

    Args:
        reader: that yielded the records.
        records: which clips.
        folder: made if it is missing.
        form: of the index.
        shards: put the bytes into tar files for WebDataset, of up to 1000 clips or 512 MiB.
        on_progress: told how many were written, after each.

    Raises:
        ConfigurationError: the folder cannot be written, holds an export in another form, or is written by another
            process; or the clips are of several consumers, which share their ids.
        StoreUnavailableError: the store did not answer; the next run goes on.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            _check_form(folder, form, shards)
            for half_written in folder.glob(f".*{PARTIAL}"):
                half_written.unlink()
            with closing(_Export(folder, form, shards=shards)) as under_way:
                return under_way.run(reader, records, on_progress)
    except OSError as error:
        raise ConfigurationError(f"--export {folder}: cannot be written: {error.strerror or error}") from error


class _Export:
    def __init__(self, folder: Path, form: IndexForm, *, shards: bool) -> None:
        self._index: Index = JsonLines(folder) if form is IndexForm.JSONL else ParquetFiles(folder)
        self._media: Media = Shards(folder) if shards else Files(folder)
        self._done = DigestSet()
        self._consumers: set[str] = set()

    def run(
        self, reader: ClipReader, records: Iterable[ClipRecord], on_progress: Callable[[int], None]
    ) -> ExportReport:
        for clip_id, consumer in self._index.described():
            self._note(clip_id, consumer)
        self._append([line for line in self._media.undescribed() if line["clip_id"] not in self._done])
        num_new = num_known = num_references = 0
        lines: list[dict[str, Any]] = []
        for record in records:
            self._check_consumer(record.values["consumer"])
            if record.values["clip_id"] in self._done:
                num_known += 1
                continue
            clip = Clip(record, reader.open_media(record), reader.thumbnail(record))
            lines.append(self._media.add(clip) | columns_of(record))
            num_new += 1
            num_references += clip.media is None
            on_progress(num_new)
            if self._media.is_due(len(lines)):
                self._media.seal()
                self._append(lines)
                lines = []
        self._media.seal()
        self._append(lines)
        return ExportReport(num_new, num_known, num_references)

    def close(self) -> None:
        self._media.close()

    def _append(self, lines: list[dict[str, Any]]) -> None:
        if lines:
            self._index.append(lines)
            for line in lines:
                self._note(line["clip_id"], line["consumer"])

    def _note(self, clip_id: str, consumer: str) -> None:
        self._done.add([clip_id])
        self._consumers.add(consumer)

    def _check_consumer(self, consumer: str) -> None:
        self._consumers.add(consumer)
        if len(self._consumers) > 1:
            raise ConfigurationError(
                f"clips of the consumers {' and '.join(sorted(self._consumers))} would stand in one folder, each clip "
                "of one video under the same id; choose one with --consumer, and a folder for each"
            )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(f"--export {folder}: another export writes there; wait for it") from error
        yield


def _check_form(folder: Path, form: IndexForm, shards: bool) -> None:
    holds_lines, holds_parquet = (folder / INDEX_NAME).exists(), any(folder.glob(PARQUET_NAMES))
    holds_shards, holds_files = any(folder.glob("clips-*.tar")), any(folder.glob("*.mp4"))
    for is_wrong, what, way_out in (
        (holds_lines and form is IndexForm.PARQUET, f"is described by {INDEX_NAME}", "--format jsonl"),
        (holds_parquet and form is IndexForm.JSONL, "is described by Parquet files", "--format parquet"),
        (holds_files and shards, "holds a file for each clip", "no --webdataset"),
        (holds_shards and not shards, "holds tar files", "--webdataset"),
    ):
        if is_wrong:
            raise ConfigurationError(
                f"--export {folder}: {what} from an earlier export; give {way_out}, or another folder"
            )
