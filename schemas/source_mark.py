"""Which table a position counts in: its identity, and the newest snapshot of it that was read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

_GENERATION = "#"
UNKNOWN = "unknown"
"""What a mark says that was put together from rows, where no marker was left to tell."""


@dataclass(frozen=True, slots=True)
class SourceMark:
    """What is remembered of a source, to tell whether it is still the same.

    Attributes:
        table_id: tells a table from another that has its name: the catalog's uuid for it, or when it was created;
            :data:`UNKNOWN` where neither can be told.
        snapshot_id: the newest snapshot that was read and that brought rows; 0 where that is not known.
        snapshot_uuid: its uuid, or what stands in for one; :data:`UNKNOWN` where its time has to tell.
        next_offset: the end of the source as of it.
        committed_at_ms: when it was committed, in milliseconds since 1970.
        swept_id: the newest snapshot up to which rows that are gone were looked for; 0 for none.
    """

    table_id: str
    snapshot_id: int
    snapshot_uuid: str
    next_offset: int
    committed_at_ms: int
    swept_id: int = 0

    @property
    def committed_at(self) -> datetime:
        """When the snapshot was committed."""
        return datetime.fromtimestamp(self.committed_at_ms / 1000, UTC)

    def to_json(self) -> str:
        """Return the compact form that is stored in snapshot properties."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SourceMark:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: ``text`` is none.
        """
        try:
            raw: Any = json.loads(text)
            return cls(
                str(raw["table_id"]),
                int(raw["snapshot_id"]),
                str(raw["snapshot_uuid"]),
                int(raw["next_offset"]),
                int(raw["committed_at_ms"]),
                int(raw.get("swept_id", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not the mark of a source: {text!r} ({error})") from error


def generation_of(source: str, table: str) -> int | None:
    """Return which table of the name ``table`` ``source`` is: 1 for the first, None where it is of another name.

    A table that was dropped and made anew, or set back, gives row ids again. What was curated of it before is kept
    apart by the name of the source: ``db.raw``, then ``db.raw#2`` and so on.
    """
    if source == table:
        return 1
    name, _, number = source.rpartition(_GENERATION)
    return int(number) if name == table and number.isdecimal() and int(number) > 1 else None


def is_earlier_generation(source: str, than: str) -> bool:
    """Return whether both are of one name, and ``source`` is the older table of the two."""
    name = than if generation_of(than, than.rpartition(_GENERATION)[0]) is None else than.rpartition(_GENERATION)[0]
    older, newer = generation_of(source, name), generation_of(than, name)
    return older is not None and newer is not None and older < newer


def source_of_generation(table: str, generation: int) -> str:
    """Return the name of a source, which :func:`generation_of` reads."""
    return table if generation == 1 else f"{table}{_GENERATION}{generation}"
