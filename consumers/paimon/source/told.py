"""What the changes of a table have told at a snapshot, by the levels of the files that hold it.

Changes that are read as they were written tell all that the table holds. A changelog by lookup comes when files leave
level 0, one by full compaction when they reach the highest; what has not been merged so far is told later.
Sources: Paimon's documentation of changelog producers, and ``DataTableStreamScan.tryFirstPlan`` of its Java
implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consumers.errors import ConfigurationError

NONE, INPUT = "none", "input"
BY_COMPACTION = ("lookup", "full-compaction")
"""Producers whose changelogs are made when files are merged: they tell what a reader of the table would see."""

_PRODUCER, _NUM_LEVELS, _TRIGGER = "changelog-producer", "num-levels", "num-sorted-run.compaction-trigger"
_DEFAULT_TRIGGER = 5


@dataclass(frozen=True, slots=True)
class Told:
    """Which files hold what was told.

    Attributes:
        producer: the table's ``changelog-producer``.
        lowest_level: those of this level and above.
    """

    producer: str
    lowest_level: int

    @property
    def is_by_compaction(self) -> bool:
        """Whether changes are told when files are merged, rather than as they were written."""
        return self.producer in BY_COMPACTION

    def holds(self, level: int) -> bool:
        """Return whether what a file of ``level`` holds was told."""
        return level >= self.lowest_level


def told_by(name: str, options: Mapping[str, Any], *, is_keyed: bool) -> Told:
    """Return what is told under the options of one schema of a table.

    Args:
        name: the table's full name, for messages.
        options: of the schema.
        is_keyed: whether the table has a primary key; others know no producers.

    Raises:
        ConfigurationError: an option that counts levels is no number.
    """
    producer = str(options.get(_PRODUCER, NONE)).strip().lower() if is_keyed else NONE
    if producer == "full-compaction":
        num_levels = _number(name, options, _NUM_LEVELS)
        if num_levels is None:
            num_levels = (_number(name, options, _TRIGGER) or _DEFAULT_TRIGGER) + 1
        return Told(producer, num_levels - 1)
    return Told(producer, 1 if producer == "lookup" else 0)


def _number(name: str, options: Mapping[str, Any], option: str) -> int | None:
    value = options.get(option)
    try:
        return None if value is None else int(str(value))
    except ValueError:
        raise ConfigurationError(
            f"table {name}: option {option} = {str(value)!r} is no whole number; correct it, or unset it"
        ) from None
