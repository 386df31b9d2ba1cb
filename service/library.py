"""What the tables say, for people: videos, clips, dead letters, the audit.

Everything is bounded: a search takes about a second, whatever the size of the table, and says where to go on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol

from consumers.paimon.commit.reposition import Move
from consumers.paimon.commit.takedown import Takedown
from consumers.paimon.landing.raw_writer import RegisterReport
from consumers.paimon.reading.audit_report import AuditReport
from consumers.paimon.reading.clips import ClipBytes, ClipPlace, ClipRecord
from consumers.paimon.reading.story import LetterFilter, VideoFilter
from consumers.paimon.reading.takedowns import Certificate, TargetKind
from consumers.ports import CommitMark
from schemas.positions import Position
from schemas.records import RawVideo


@dataclass(frozen=True, slots=True)
class ClipQuery:
    """Which clips; None does not restrict.

    Attributes:
        before: row id in the curated table; only clips below it.
        since: processed at or after.
        until: processed before.
        text: part of the caption, case ignored.
        source_row_id: of this video.
        min_motion: least motion score.
        min_aesthetic: least aesthetic score.
        min_quality: least technical quality.
        max_nsfw: highest NSFW score.
    """

    before: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    source_row_id: int | None = None
    min_motion: float | None = None
    min_aesthetic: float | None = None
    min_quality: float | None = None
    max_nsfw: float | None = None

    COLUMNS: ClassVar[tuple[str, ...]] = (
        "processed_at",
        "source_row_id",
        "caption",
        "motion_score",
        "aesthetic_score",
        "technical_quality",
        "nsfw_score",
    )
    """What :meth:`admits` looks at."""

    def admits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a clip meets every restriction. A score that was not measured meets none."""
        at = row["processed_at"]
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (self.source_row_id is None or row["source_row_id"] == self.source_row_id)
            and (self.text is None or self.text.casefold() in (row["caption"] or "").casefold())
            and _at_least(row["motion_score"], self.min_motion)
            and _at_least(row["aesthetic_score"], self.min_aesthetic)
            and _at_least(row["technical_quality"], self.min_quality)
            and (self.max_nsfw is None or (row["nsfw_score"] is not None and row["nsfw_score"] <= self.max_nsfw))
        )


def _at_least(value: float | None, bound: float | None) -> bool:
    return bound is None or (value is not None and value >= bound)


@dataclass(frozen=True, slots=True)
class ClipList:
    """Clips, the newest first; ``next_before`` is None when there are no more."""

    records: list[ClipRecord]
    next_before: int | None


class Library(Protocol):
    """The tables of one consumer. Thread-safe. Every method may raise :class:`StoreUnavailableError`."""

    def dead_letters(self, wanted: LetterFilter, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return ledger rows of source rows whose latest run failed, the highest row id first, and where to go on."""
        ...

    def all_dead_letters(self, wanted: LetterFilter, limit: int) -> list[dict[str, Any]]:
        """Return those that :meth:`dead_letters` would over all its pages, however long that takes."""
        ...

    def videos(self, wanted: VideoFilter, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return the latest ledger rows of videos, the highest row id first, and where to go on."""
        ...

    def rejected(self, before: int | None, limit: int) -> tuple[list[dict[str, Any]], int | None]:
        """Return ledger rows of source rows whose latest run kept no clip, and where to go on."""
        ...

    def audit(self, num_decoded: int = 0) -> AuditReport | None:
        """Compare the tables; None when an audit is under way already.

        Args:
            num_decoded: look for the bytes of every clip, and decode this many; 0 looks at no bytes.
        """
        ...

    def raw_video(self, row_id: int) -> RawVideo | None:
        """Return a row of the raw table, None when there is none."""
        ...

    def runs(self, row_id: int) -> list[dict[str, Any]]:
        """Return the ledger rows of a source row."""
        ...

    def clips(self, query: ClipQuery, limit: int) -> ClipList:
        """Return at most ``limit`` clips; fewer where many had to be looked at."""
        ...

    def clip(self, clip_id: str, row_id: int | None = None) -> ClipRecord | None:
        """Return one clip; without the row that it is said to be in, it is looked for among the newest."""
        ...

    def clip_places(
        self, source_row_id: int, clip_ids: Collection[str], landed_at: datetime, processed_at: datetime
    ) -> dict[str, ClipPlace]:
        """Return the places of clips of one video that are in the curated table, by clip id."""
        ...

    def media(self, record: ClipRecord) -> ClipBytes | None:
        """Return the MP4 of one clip as something to read from, None where only a reference is kept."""
        ...

    def thumbnail(self, record: ClipRecord) -> bytes | None:
        """Return the JPEG of one clip, None where it has none."""
        ...

    def register(self, uris: Sequence[str]) -> RegisterReport:
        """Register objects.

        Raises:
            ConfigurationError: one does not exist or is not on the allow-list; nothing was registered.
        """
        ...

    def head_offset(self) -> int:
        """Return the offset after the last one of the source."""
        ...

    def recent_commits(self, limit: int) -> list[CommitMark]:
        """Return the newest retained commits, the newest first."""
        ...

    def committed(self) -> tuple[Position, int, int]:
        """Return position, sequence and epoch of the last commit."""
        ...

    def plan_move(self, offset: int) -> Move:
        """Plan to go on from ``offset``."""
        ...

    def plan_again(self, row_ids: Sequence[int]) -> Move:
        """Plan to process rows again."""
        ...

    def make_move(self, move: Move) -> None:
        """Make a planned change."""
        ...

    def plan_takedown(
        self, kind: TargetKind, value: str, actor: str, origin: str, at: datetime, reason: str | None
    ) -> Takedown:
        """Return what is to be taken down, not yet stored.

        Raises:
            ConfigurationError: there is no such row.
        """
        ...

    def take_down(self, takedown: Takedown) -> None:
        """Store a takedown, which consumers obey when they next start."""
        ...

    def obey_takedowns(self) -> None:
        """Do what takedowns ask of this consumer, which must not run."""
        ...

    def takedowns(self, takedown_id: str | None = None) -> list[Certificate]:
        """Return the certificate of one takedown, or of all, the newest first."""
        ...
