"""The raw table of a schedule, and what processing makes of its rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from schemas.records import BlobReference, ProcessedVideo, RawVideo, RowKind, VideoOutcome
from tests.support.warehouse import AT, failed, processed

SOURCE = "db.raw_videos"
_FAILED = -1


@dataclass(slots=True)
class Raw:
    """The raw table: rows by offset; those that are gone; the end."""

    is_keyed: bool
    chance: random.Random
    rows: dict[int, RawVideo] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    end: int = 0

    def land(self, num_rows: int) -> None:
        """Append rows; with a key some of them replace or delete, and offsets have gaps."""
        for _ in range(num_rows):
            if self.is_keyed and self.chance.random() < 0.2:
                self.end += 1
            row_id, self.end = self.end, self.end + 1
            name = f"k{self.chance.randrange(4)}" if self.is_keyed else f"v{row_id}"
            kind = RowKind.INSERT
            if self.is_keyed and any(row.key == name for row in self.rows.values()):
                kind = RowKind.DELETE if self.chance.random() < 0.3 else RowKind.UPDATE
            self.rows[row_id] = RawVideo(
                row_id,
                1,
                AT,
                SOURCE,
                name,
                BlobReference(f"file:///videos/{name}.mp4"),
                row_kind=kind,
                key=name if self.is_keyed else None,
            )

    def standing(self) -> Iterator[RawVideo]:
        """Yield the rows that are there."""
        return (row for row_id, row in self.rows.items() if row_id not in self.gone)


def outcome(video: RawVideo, chance: random.Random, *, is_unstable: bool) -> ProcessedVideo:
    """Return what comes of ``video``: the same each time, unless processing is unstable."""
    if video.row_kind is RowKind.DELETE:
        return removal(video)
    kinds = (_FAILED, 0, 1, 1, 2)
    kind = kinds[video.row_id * 7 % len(kinds)]
    if is_unstable and chance.random() < 0.4:
        kind = chance.choice(kinds)
    return ProcessedVideo(video, _made(video.row_id, kind), 1, AT)


def removal(video: RawVideo) -> ProcessedVideo:
    """Return the end of a video that is gone."""
    return ProcessedVideo(video, VideoOutcome(is_takedown=True), 0, AT)


@lru_cache(maxsize=4096)
def _made(row_id: int, kind: int) -> VideoOutcome:
    return failed(row_id).outcome if kind == _FAILED else processed(row_id, kind, source=SOURCE).outcome
