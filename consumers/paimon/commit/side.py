"""The two tables of the sink, as one incarnation sees them, and the steps at which it may die."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from consumers.paimon.commit.fence import Fence
from consumers.paimon.commit.recovery import Standing
from consumers.paimon.commit.table_committer import TableCommitter
from schemas.positions import Position

STEPS = (
    "before_ledger_claim",
    "after_ledger_claim",
    "after_curated_claim",
    "before_ledger_write",
    "after_ledger_write",
    "after_ledger_publish",
    "before_curated_write",
    "after_curated_write",
    "after_curated_publish",
)
"""The instants at which ``on_step`` is called, in order; each is one at which a process may die."""


@dataclass
class Side:
    """One of the two tables, as this incarnation sees it."""

    role: str
    table: Any
    fence: Fence
    committer: TableCommitter
    standing: Standing = field(default_factory=Standing)
    is_uncertain: bool = False

    @property
    def position(self) -> Position:
        """What is finished, by this table."""
        return self.standing.position

    @property
    def sequence(self) -> int:
        """Number of its last commit."""
        return self.standing.sequence


@dataclass
class Pending:
    """A commit that has begun. It keeps its number until both tables have it."""

    position: Position
    sequence: int
    num_ledger_rows: int = 0
    num_clips: int = 0
