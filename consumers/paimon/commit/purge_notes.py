"""How far the bytes of a takedown have gone: what maintenance notes of it in the control table."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from consumers.errors import ConfigurationError
from consumers.paimon.commit.takedown import Obeyed, TakedownStore

_PURGE = "takedown_purge"
_ACTOR = "maintenance"


@dataclass(frozen=True, slots=True)
class PurgeNote:
    """How far it is.

    Attributes:
        takedown_id: whose bytes.
        curated_snapshot_id: from this snapshot of the curated table on no file of it holds them.
        rewritten_at: when that was so.
        gone_at: when the older snapshots had expired, and no file of them was left on the store; None until then.
    """

    takedown_id: str
    curated_snapshot_id: int
    rewritten_at: datetime
    gone_at: datetime | None = None

    def holds_for(self, obeyed: Collection[Obeyed]) -> bool:
        """Return whether nobody has taken clips of it down since: a consumer that rested obeys when it starts."""
        return all(each.num_clips == 0 or each.curated_snapshot_id <= self.curated_snapshot_id for each in obeyed)

    def gone(self, at: datetime) -> PurgeNote:
        """Return the note that the bytes are off the store."""
        return replace(self, gone_at=at)


class PurgeNotes:
    """The notes in one control table.

    Args:
        store: the takedowns of the same table.
    """

    def __init__(self, store: TakedownStore) -> None:
        self._store = store

    def read(self) -> dict[str, PurgeNote]:
        """Return the notes by takedown.

        Raises:
            ConfigurationError: one of them is damaged.
            StoreUnavailableError: the store did not answer.
        """
        return {row["key"]: _from_json(row["key"], row["value"]) for row in self._store.rows(_PURGE)}

    def write(self, note: PurgeNote, at: datetime) -> None:
        """Store ``note`` in place of an earlier one of the same takedown.

        Raises:
            StoreUnavailableError: the store did not answer.
        """
        value = {
            "curated_snapshot_id": note.curated_snapshot_id,
            "rewritten_at": note.rewritten_at.isoformat(),
            "gone_at": None if note.gone_at is None else note.gone_at.isoformat(),
        }
        self._store.write(_PURGE, note.takedown_id, json.dumps(value), _ACTOR, None, at)


def _from_json(takedown_id: str, text: str) -> PurgeNote:
    try:
        raw: Any = json.loads(text)
        gone = raw["gone_at"]
        return PurgeNote(
            takedown_id,
            int(raw["curated_snapshot_id"]),
            datetime.fromisoformat(raw["rewritten_at"]),
            None if gone is None else datetime.fromisoformat(gone),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the note on the bytes of takedown {takedown_id} in the control table is damaged: {error}"
        ) from error
