"""What an audit says: counts, and for each kind of finding some examples in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MAX_DETAILS = 10
"""Examples of each kind of finding."""

Kind = Literal[
    "missing",
    "mismatched",
    "duplicated",
    "unaccounted",
    "clips_missing",
    "clips_duplicated",
    "files_missing",
    "files_damaged",
    "clips_broken",
]


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What the audit found. All but ``details`` are counts.

    Attributes:
        rows: raw rows when the audit began; of a table that is read change by change, those that stand in it.
        ledger_rows: the consumer's ledger rows, all runs.
        clips: the consumer's clips in the curated table.
        pending: raw rows, or changes, that the consumer's position does not cover yet, and rows that are gone whose
            clips it is still to take out; not an error.
        missing: raw rows that the position covers and the ledger does not hold.
        mismatched: raw rows of which the ledger tells something else: another video, another version of it, or that it
            stands although it was deleted.
        duplicated: ledger rows beyond one per source row and run.
        unaccounted: clips that no ledger row of a latest run and a newest version claims, and those of rows that were
            deleted before the consumer last looked for such.
        clips_missing: clips that the ledger says were kept, and that the curated table lacks.
        clips_duplicated: clips beyond one per clip id, whichever consumer wrote them.
        clips_retired: kept clips that a newer version or the deletion of their video took out again; not an error.
        files_missing: files that rows of a snapshot need and that are not there.
        files_damaged: files whose size is not the one that their table tells.
        clips_checked: clips whose bytes were decoded; 0 unless the audit is deep.
        clips_broken: clips without bytes, and of those that were decoded, the ones that are not what their row tells.
        details: a bounded list of examples, one sentence each: which table, row, and file.
    """

    rows: int
    ledger_rows: int
    clips: int
    pending: int
    missing: int
    mismatched: int
    duplicated: int
    unaccounted: int
    clips_missing: int
    clips_duplicated: int
    clips_retired: int
    files_missing: int
    files_damaged: int
    clips_checked: int
    clips_broken: int
    details: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is missing, wrong, there twice or unaccounted for."""
        return not (
            self.missing
            or self.mismatched
            or self.duplicated
            or self.unaccounted
            or self.clips_missing
            or self.clips_duplicated
            or self.files_missing
            or self.files_damaged
            or self.clips_broken
        )


class Findings:
    """Collects findings while an audit goes on."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self._details: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, kind: Kind, examples: Iterable[str], count: int) -> None:
        """Count findings of one kind; of ``examples`` no more are taken than are shown."""
        self.counts[kind] += count
        kept = self._details[kind]
        for example in examples:
            if len(kept) >= MAX_DETAILS:
                return
            kept.append(example)

    def note(self, text: str) -> None:
        """Add a sentence that counts for nothing."""
        self._details["note"].append(text)

    def details(self) -> tuple[str, ...]:
        """Return the notes, then the examples by kind."""
        notes = self._details.get("note", [])
        return (*notes, *(each for kind, found in self._details.items() if kind != "note" for each in found))
