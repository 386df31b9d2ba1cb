"""Which offsets are whose, when several processes share one consumer's work.

Shard i of n owns the offsets that leave the remainder i when divided by n. All shards count in the same offsets, so a
shard's position also covers what it need not do: the offsets of the others, as far as it has read. That keeps a
position as compact as that of an undivided consumer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from schemas.positions import OffsetRange, Position

MAX_SHARDS = 1024
_SHARD = re.compile(r"^(\d{1,4})/(\d{1,4})$")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """Shard ``index`` (from 0) of ``count``.

    Raises:
        ValueError: ``count`` is not within 1 and 1024, or ``index`` is not below it.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_SHARDS:
            raise ValueError(f"the number of shards must be within 1 and {MAX_SHARDS}, not {self.count}")
        if not 0 <= self.index < self.count:
            raise ValueError(
                f"there is no shard {self.index} of {self.count}: the shards are 0/{self.count} to "
                f"{self.count - 1}/{self.count}"
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n``.

        Raises:
            ValueError: it is none, or out of range.
        """
        match = _SHARD.match(text)
        if match is None:
            raise ValueError(f"not a shard: {text!r}; needed: its number from 0, a slash and how many there are (0/3)")
        return cls(int(match[1]), int(match[2]))

    @property
    def is_whole(self) -> bool:
        """Whether it is the only one."""
        return self.count == 1

    def owns(self, offset: int) -> bool:
        """Return whether ``offset`` is this shard's."""
        return offset % self.count == self.index

    def num_owned(self, offsets: OffsetRange) -> int:
        """Return how many of ``offsets`` are this shard's."""
        return self.num_below(offsets.end) - self.num_below(offsets.start)

    def num_below(self, end: int) -> int:
        """Return how many of the offsets below ``end`` are this shard's."""
        return (end - self.index + self.count - 1) // self.count if end > self.index else 0

    def fill(self, owned: Iterable[OffsetRange]) -> Position:
        """Return the position of this shard in which exactly these of its own offsets are finished.

        Args:
            owned: ranges of the shard's own offsets numbered one by one (``offset // count``).
        """
        return Position.from_ranges(
            OffsetRange(
                run.start * self.count + self.index if run.start else 0,
                run.end * self.count + self.index,
            )
            for run in owned
        )


WHOLE = Shard()
"""The only shard of a consumer that is not divided."""


@dataclass(frozen=True, slots=True)
class Base:
    """What one shard of an earlier division had finished when the division changed."""

    shard: Shard
    position: Position

    def covers(self, offset: int) -> bool:
        """Return whether that shard owned ``offset`` and had finished it."""
        return self.shard.owns(offset) and self.position.covers(offset)


@dataclass(frozen=True, slots=True)
class Share:
    """What is left to one shard: its own offsets, without those that were finished under earlier divisions.

    ``bases`` matter only above the shard's watermark, and are dropped as it passes them.
    """

    shard: Shard = WHOLE
    bases: tuple[Base, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it is everything."""
        return self.shard.is_whole and not self.bases

    def owes(self, offset: int) -> bool:
        """Return whether ``offset`` is this shard's to do, unless its position covers it."""
        return self.shard.owns(offset) and not any(base.covers(offset) for base in self.bases)

    def covers(self, position: Position, offset: int) -> bool:
        """Return whether ``offset`` is finished: by the shard's ``position``, or under an earlier division."""
        return position.covers(offset) or any(base.covers(offset) for base in self.bases)

    def without(self, unfinished: Iterable[OffsetRange]) -> Share:
        """Return this share with none of ``unfinished`` finished under an earlier division."""
        gaps = list(unfinished)
        if not self.bases or not gaps:
            return self
        return Share(self.shard, tuple(Base(base.shard, base.position.without(gaps)) for base in self.bases))

    def pruned(self, position: Position) -> Share:
        """Return this share without the bases that ``position`` has passed."""
        kept = tuple(dict.fromkeys(base for base in self.bases if base.position.end > position.watermark))
        return self if kept == self.bases else Share(self.shard, kept)

    def first_missing(self, position: Position, end: int) -> int | None:
        """Return the lowest offset below ``end`` that is this shard's to do still."""
        return next(filter(self.owes, owned_part(self.shard, position.missing(end))), None)

    def num_missing(self, position: Position, end: int) -> int:
        """Return how many offsets below ``end`` are this shard's to do still."""
        horizon = max((base.position.end for base in self.bases), default=0)
        num_missing = 0
        for gap in position.missing(end):
            if gap.start < horizon:
                first = gap.start + (self.shard.index - gap.start) % self.shard.count
                num_missing += sum(map(self.owes, range(first, min(gap.end, horizon), self.shard.count)))
            if gap.end > horizon:
                num_missing += self.shard.num_owned(OffsetRange(max(gap.start, horizon), gap.end))
        return num_missing


EVERYTHING = Share()
"""The share of a consumer that is not divided and never was."""


def bases_to_json(bases: Iterable[Base]) -> str:
    """Return the compact form that is stored in snapshot properties."""
    return json.dumps([[str(base.shard), json.loads(base.position.to_json())] for base in bases], separators=(",", ":"))


def bases_from_json(text: str) -> tuple[Base, ...]:
    """Read what :func:`bases_to_json` wrote.

    Raises:
        ValueError: ``text`` is none.
    """
    try:
        raw: Any = json.loads(text)
        return tuple(Base(Shard.parse(shard), Position.from_json(json.dumps(position))) for shard, position in raw)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not the bases of a shard: {text!r} ({error})") from error


def rebased(shards: Iterable[tuple[Share, Position]]) -> tuple[Position, tuple[Base, ...]]:
    """Return where every shard of a new division starts: its position, and what was finished above it.

    Args:
        shards: share and position of each shard of the division so far.
    """
    old = list(shards)
    floor = Position(min(position.watermark for _, position in old))
    bases = [base for share, position in old for base in (*share.bases, Base(share.shard, position))]
    return floor, Share(bases=tuple(bases)).pruned(floor).bases


def owned_part(shard: Shard, offsets: Iterable[OffsetRange]) -> Iterator[int]:
    """Yield, in order, the offsets of ``offsets`` that are of ``shard``."""
    for part in offsets:
        first = part.start + (shard.index - part.start) % shard.count
        yield from range(first, part.end, shard.count)
