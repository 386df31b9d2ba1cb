"""What one run of a consumer leaves for the next, should it end without a word."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class RunNote:
    """What is known of the runs of one shard of a consumer.

    Attributes:
        run_id: the run that wrote it.
        is_running: whether that run has begun and not told its end.
        num_unclean: runs in a row before it that ended without a word.
        alone: row that it tries at this moment with nothing beside it; None where there is none.
        deaths: how many runs ended without a word while they tried a row alone, by row id; those that are not done.
    """

    run_id: str
    is_running: bool = True
    num_unclean: int = 0
    alone: int | None = None
    deaths: Mapping[int, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the stored form."""
        deaths = {str(row_id): count for row_id, count in self.deaths.items()}
        return json.dumps(
            {
                "run": self.run_id,
                "running": self.is_running,
                "unclean": self.num_unclean,
                "alone": self.alone,
                "deaths": deaths,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> RunNote:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: ``text`` is no note.
        """
        try:
            raw: Any = json.loads(text)
            alone = None if raw["alone"] is None else int(raw["alone"])
            deaths = {int(row_id): int(count) for row_id, count in raw["deaths"].items()}
            return cls(str(raw["run"]), bool(raw["running"]), int(raw["unclean"]), alone, deaths)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a note of a run: {text!r} ({error})") from error


class RunNotes(Protocol):
    """Where the note of one shard lies."""

    def read(self) -> RunNote | None:
        """Return it, or None where there is none that can be read.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...

    def write(self, note: RunNote) -> None:
        """Put ``note`` in its place; durable when this returns.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        ...
